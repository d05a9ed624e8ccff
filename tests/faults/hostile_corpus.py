"""Hostile files, which try to run code, to leave their folder, or to take all memory.

Each table holds the files of a kind by name. Those that try to run code try to create the file CANARY. Pickles are
written as opcodes, so that building the corpus runs nothing.
"""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import os
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

CANARY = f"{tempfile.gettempdir()}/cnnbench-canary-{os.getpid()}"
TOUCH = f"touch {CANARY}"
PYTHON = f"open({CANARY!r}, 'w').close()"
SECRET = f"{tempfile.gettempdir()}/cnnbench-outside-{os.getpid()}"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def called(module: str, name: str, *arguments: str) -> bytes:
    """A pickle of protocol 2 that calls a function with strings."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(map(text, arguments)) + b"tR."


def stack_called(module: str, name: str, *arguments: str) -> bytes:
    return b"\x80\x04" + text(module) + text(name) + b"\x93(" + b"".join(map(text, arguments)) + b"tR."


CALLS = {
    "os_system": called("os", "system", TOUCH),
    "posix_system": called("posix", "system", TOUCH),
    "nt_system": called("nt", "system", TOUCH),
    "subprocess_popen": b"\x80\x02csubprocess\nPopen\n((X" + struct.pack("<I", 5) + b"touch" + text(CANARY) + b"ltR.",
    "check_output": called("subprocess", "check_output", TOUCH),
    "builtins_eval": called("builtins", "eval", PYTHON),
    "builtin_exec_of_python_2": called("__builtin__", "exec", PYTHON),
    "builtins_exec": called("builtins", "exec", PYTHON),
    "builtins_open": called("builtins", "open", CANARY, "w"),
    "builtins_import": called("builtins", "__import__", "os"),
    "stack_global": stack_called("os", "system", TOUCH),
    "dotted_name": stack_called("numpy", "ndarray.__class__.__base__", TOUCH),
    "dotted_globals": stack_called("_codecs", "encode.__self__", TOUCH),
    "import_module": called("importlib", "import_module", "antigravity"),
    "timeit": called("timeit", "timeit", PYTHON),
    "pdb_run": called("pdb", "run", PYTHON),
    "profile": called("cProfile", "run", PYTHON),
    "runstring": called("numpy.testing._private.utils", "runstring", PYTHON),
    "ctypes": called("ctypes", "CDLL", "libc.so.6"),
    "webbrowser": called("webbrowser", "open", "http://localhost:1/"),
    "socket": b"\x80\x02csocket\ncreate_connection\n(" + text("localhost") + b"K\x01\x86tR.",
    "shutil_copy": called("shutil", "copy", "/etc/hostname", CANARY),
    "logging_file": called("logging", "FileHandler", CANARY),
    "torch_load_from_bytes": called("torch.storage", "_load_from_bytes", "x"),
    "torch_load": called("torch", "load", CANARY),
    "code_interpreter": called("code", "InteractiveInterpreter"),
    "runpy": called("runpy", "run_path", CANARY),
    "pty": called("pty", "spawn", "touch"),
    "codecs_decode": called("_codecs", "decode", "00", "hex"),
    "hydra_instantiate": called("hydra._internal.instantiate._instantiate2", "instantiate", "x"),
    "nested": b"\x80\x02cbuiltins\ngetattr\n(cbuiltins\n__import__\n(" + text("os") + b"tR" + text("system") + b"tR("
    + text(TOUCH) + b"tR.",
    "inside_the_labels": b"\x80\x02}(" + text("labels") + b"](cos\nsystem\n(" + text(TOUCH) + b"tReu.",
    "pickle_in_a_pickle": b"\x80\x02cpickle\nloads\n(" + b"C\x10" + called("os", "system", "true")[:16] + b"tR.",
    "inst": b"(" + b"S'" + TOUCH.encode() + b"'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\n" + text(TOUCH) + b"o.",
    "newobj": b"\x80\x02cos\nsystem\n(" + text(TOUCH) + b"t\x81.",
    "newobj_ex": b"\x80\x04cos\nsystem\n(" + text(TOUCH) + b"t}\x92.",
    "copyreg_reconstructor": b"\x80\x02ccopyreg\n_reconstructor\n(cos\n_wrap_close\ncbuiltins\nobject\nNtR.",
    "copyreg_newobj": b"\x80\x02ccopyreg\n__newobj__\n(cos\n_wrap_close\ntR.",
    "functools_partial": b"\x80\x02cfunctools\npartial\n(cos\nsystem\n" + text(TOUCH) + b"tR)R.",
    "methodcaller": called("operator", "methodcaller", "system", TOUCH),
    "build_on_a_module": b"\x80\x02cos\npath\n}(" + text("x") + b"K\x01ub.",
    "build_on_a_name": b"\x80\x02cnumpy\ndtype\n}" + text("__call__") + b"K\x01sb.",
    "build_slots_of_a_name": b"\x80\x02c_codecs\nencode\nN}" + text("__code__") + b"K\x01s\x86b.",
    "extension": b"\x80\x02\x82\x01.",
    "persistent_id": b"Pcanary\n.",
    "binary_persistent_id": b"\x80\x02K\x01Q.",
}  # fmt: skip


def array(
    shape: bytes = b"K\x01M\x00\x0c\x86", kind: bytes = b"u1", values: bytes = b"", fortran: bytes = b"\x89"
) -> bytes:
    """A batch with an array of any shape and type, in numpy's pickle format."""
    reconstruct = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR"
    dtype = (
        b"cnumpy\ndtype\n(U"
        + bytes([len(kind)])
        + kind
        + b"K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    state = b"(K\x01" + shape + dtype + fortran + b"T" + struct.pack("<i", len(values)) + values + b"tb"
    return b"\x80\x02}(U\x04data" + reconstruct + state + b"U\x06labels](K\x01eu."


PIXELS = bytes(3072)
GREEDY = {
    "memo_of_32_gigabytes": b"\x80\x02}r\xff\xff\xff\x7f.",
    "text_memo": b"}p99999999999\n.",
    "bytes_of_an_exabyte": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.",
    "bytearray_of_a_terabyte": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "text_of_an_exabyte": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"x.",
    "frame_of_an_exabyte": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"}.",
    "negative_length": b"\x80\x02T\xff\xff\xff\xffx.",
    "negative_long": b"\x80\x02\x8b\xff\xff\xff\xff.",
    "deep_tuple_as_a_key": b"\x80\x02}K\x00" + b"\x85" * 200_000 + b"K\x01s.",
    "deep_lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
    "list_in_itself": b"\x80\x02]q\x00h\x00a.",
    "laughs": b"\x80\x02]" + b"2" * 1000 + b"(" + b"22e" * 100 + b".",
    "array_of_a_terabyte": array(shape=b"\x8a\x05\x00\x00\x00\x00\x01M\x00\x0c\x86"),
    "negative_shape": array(shape=b"J\xff\xff\xff\xffM\x00\x0c\x86", values=PIXELS),
    "shape_of_text": array(shape=b"U\x01aU\x01b\x86", values=PIXELS),
    "too_few_pixels": array(values=PIXELS[:-1]),
    "too_many_pixels": array(values=PIXELS + b"x"),
    "object_array": array(kind=b"O8", values=PIXELS),
    "fortran_array": array(values=PIXELS, fortran=b"\x88"),
    "float_array": array(kind=b"f8", values=PIXELS),
    "no_dict": b"\x80\x02].",
    "nothing": b"",
    "stop": b".",
    "pop_of_nothing": b"0.",
    "cut_short": array(values=PIXELS)[:-100],
    "not_a_pickle": b"GIF89a",
    "text_number_of_5000_digits": b"}(I0\nL" + b"9" * 5000 + b"L\nu.",
    "unhashable_key": b"\x80\x02}]K\x01s.",
}  # fmt: skip

YAML = {
    "apply": f"!!python/object/apply:os.system ['{TOUCH}']",
    "apply_in_a_key": f"? !!python/object/apply:os.system ['{TOUCH}']\n: 1",
    "new": f"!!python/object/new:subprocess.Popen [['touch', '{CANARY}']]",
    "object": "seed: !!python/object:os._wrap_close {}",
    "name": "seed: !!python/name:os.system ''",
    "module": "!!python/module:antigravity ''",
    "apply_with_state": f'!!python/object/apply:builtins.exec {{args: ["{PYTHON}"]}}',
    "tuple": "seed: !!python/tuple [1]",
    "verbatim_tag": f"!<tag:yaml.org,2002:python/object/apply:os.system> ['{TOUCH}']",
    "tag_directive": f"%TAG ! tag:yaml.org,2002:python/object/apply:\n---\n!os.system ['{TOUCH}']",
    "own_tag": "!include /etc/passwd",
    "binary": "seed: !!binary aGVsbG8=",
    "set": "seed: !!set {a, b}",
    "omap": "seed: !!omap [a: 1]",
    "laughs": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{chr(b)}: &{chr(b)} [{','.join(['*' + chr(b - 1)] * 9)}]\n" for b in range(98, 112)),
    "alias": "model: &a {name: mlp}\ndata: *a",
    "merge": "a: &a {x: 1}\nb: {<<: *a}",
    "recursion": "a: &a [*a]",
    "deep_lists": "[" * 5000,
    "deep_mappings": "{a: " * 5000,
    "deep_blocks": "".join("  " * i + "a:\n" for i in range(300)),
    "huge_number": "seed: " + "9" * 6000,
    "sexagesimal": "seed: " + ":".join(["59"] * 2000),
    "null_byte": "a: \0",
    "escape": "a: \x1b[2J",
    "not_utf8": b"a: \xff\xfe".decode("latin-1"),
    "unhashable_key": "? [a]\n: b",
    "two_documents": "a: 1\n--- \nb: 2",
    "unclosed": "a: [",
    "tab": "a:\n\tb: 1",
    "list": "- 1",
    "scalar": "hello",
    "empty": "",
    "bad_float": "seed: .e",
    "bad_binary_number": "seed: 0b_",
    "json_of_a_pickle": json.dumps(called("os", "system", TOUCH).decode("latin-1")),
    "three_megabytes": "a: 1\n#" + "x" * 3 * 2**20,
}


def changed(**sections: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A function that changes sections of a config; the new value of a section need not be a mapping."""

    def change(config: dict[str, Any]) -> dict[str, Any]:
        for name, values in sections.items():
            known = config.get(name)
            config[name] = {**known, **values} if isinstance(known, dict) and isinstance(values, dict) else values
        return config

    return change


TARGET = {"_target_": "os.system", "_args_": [TOUCH]}
CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "target_at_the_top": lambda config: {**config, **TARGET},
    "target_in_model": changed(model=TARGET),
    "target_in_data": changed(data=TARGET),
    "target_in_optimizer": changed(optimizer=TARGET),
    "target_in_logger": changed(logger=TARGET),
    "target_for_a_value": changed(model={"dropout": TARGET}),
    "target_in_a_list": changed(tags=[TARGET]),
    "target_in_reference": changed(comparison={"reference": {"a": "${oc.env:HOME}"}}),
    "partial_and_recursive": changed(model={"_partial_": True, "_recursive_": True, "_convert_": "all"}),
    "environment": changed(name="${oc.env:HOME}"),
    "environment_in_data": changed(data={"root": "${oc.env:HOME}/x"}),
    "environment_in_a_list": changed(tags=["${oc.env:PATH}"]),
    "environment_in_a_key": changed(model={"${oc.env:HOME}": 1}),
    "decode": changed(seed="${oc.decode:'1'}"),
    "create": changed(model="${oc.create:{a:1}}"),
    "own_resolver": changed(name="${run_id:}"),
    "hydra_resolver": changed(name="${hydra:runtime.cwd}"),
    "relative_interpolation": changed(name="${..seed}"),
    "nested_interpolation": changed(name="${oc.env:${name}}"),
    "escaped_interpolation": changed(name="\\${oc.env:HOME}"),
    "name_leads_up": changed(name="../../x"),
    "name_is_absolute": changed(name="/etc/x"),
    "name_with_an_escape": changed(name="\x1b]0;x\x07"),
    "name_with_a_line_feed": changed(name="a\nb"),
    "dataset_leads_up": changed(data={"name": "../../x"}),
    "model_is_a_module": changed(model={"name": "os.system"}),
    "weights_from_the_net": changed(model={"name": "torchvision", "arch": "resnet18", "args": {"weights": "DEFAULT"}}),
    "logger_is_a_module": changed(logger={"name": "os.system"}),
    "depth_of_a_billion": changed(model={"depth": 10**9}),
    "width_of_a_billion": changed(model={"width": 1e9}),
    "width_beyond_floats": changed(model={"width": 1e300}),
    "width_not_finite": changed(model={"width": float("inf")}),
    "seed_of_text": changed(seed="0; touch x"),
    "seed_too_large": changed(seed=2**80),
    "negative_batch": changed(trainer={"eval_batch_size": -1}),
    "device_is_a_path": changed(trainer={"device": "/dev/sda"}),
    "model_is_a_list": changed(model=[1]),
    "data_is_null": changed(data=None),
    "trainer_is_text": changed(trainer="x"),
    "numbers_as_keys": lambda config: {**config, 1: 2},
    "null_as_a_key": changed(model={None: 1}),
    "class_as_a_key": changed(model={"__class__": "os"}),
    "dunder_at_the_top": lambda config: {**config, "__init__": 1},
    "list_for_a_number": changed(model={"width": [1, 2]}),
    "mapping_for_text": changed(data={"root": {"a": 1}}),
    "text_for_a_list": changed(tags="abc"),
    "not_a_number": changed(optimizer={"lr": float("nan")}),
    "images_of_a_gigapixel": changed(data={"image_size": 10**9}),
    "missing_sections": lambda config: {"seed": 1},
}  # fmt: skip
# These are accepted, but must have no effect.
HARMLESS_CONFIGS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "cache_outside": changed(data={"root": SECRET, "download": True}),
    "tags_with_escapes": changed(tags=["\x1b[31m", "[red]", "=cmd()"]),
}

JSON = {
    "list": b"[]",
    "text": b'"running"',
    "number": b"1e999",
    "deep": b"[" * 100_000,
    "deep_mapping": b'{"a":' * 100_000,
    "huge_number": b'{"seed": ' + b"9" * 6000 + b"}",
    "state_is_a_list": b'{"state": ["finished"], "model": ["x"]}',
    "state_is_a_number": b'{"state": 1, "parameters": "many"}',
    "truth_for_a_number": b'{"state": true, "macs": true}',
    "not_utf8": b'{"state": "\xff"}',
    "cut_short": b'{"state": "fin',
    "null_bytes": b"\0" * 100,
    "empty": b"",
    "pickle": CALLS["os_system"],
    "yaml_tag": f"!!python/object/apply:os.system ['{TOUCH}']".encode(),
    "python": PYTHON.encode(),
}


def robustness(**changes: Any) -> bytes:
    """A `robustness.json` with one row and changed values."""
    row = {"kind": "shift", "strength": 1, "unit": "pixels", "arguments": [1, 0], "accuracy": 0.5, "consistency": 0.5}
    rows = [row | {key: value for key, value in changes.items() if key in row}]
    whole = {"data": "digits", "split": "test", "images": 10, "images_sha256": "a", "rows": rows}
    return json.dumps(whole | {key: value for key, value in changes.items() if key in whole}).encode()


ROBUSTNESS = {
    "good": robustness(),
    "more_than_all": robustness(accuracy=1.5),
    "not_a_number": robustness(consistency=float("nan")),
    "infinite": robustness(strength=float("inf")),
    "beyond_a_picture": robustness(strength=1e300),
    "arguments": robustness(arguments=[0] * 1000),
    "long_name": robustness(kind="x" * 10_000),
    "name_is_a_list": robustness(unit=["pixels"]),
    "no_images": robustness(images=0),
    "no_rows": robustness(rows=[]),
    "rows_are_a_mapping": robustness(rows={"0": 1}),
    "many_rows": robustness(rows=[0] * 200_000),
}


def temperature(**changes: Any) -> bytes:
    """A sealed `temperature.json` with changed values."""
    values = {"temperature": 1.5, "images": 10, "weights_sha256": "a"} | changes
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return json.dumps(values | {"sha256": digest}).encode()


TEMPERATURE = {
    "good": temperature(),
    "zero": temperature(temperature=0.0),
    "negative": temperature(temperature=-1.0),
    "not_a_number": temperature(temperature=float("nan")),
    "infinite": temperature(temperature=float("inf")),
    "below_the_least_float": temperature(temperature=5e-324),
    "whole_number_of_400_digits": temperature(temperature=10**400),
    "no_images": temperature(images=0),
    "weights_are_a_list": temperature(weights_sha256=["a"]),
    "sealed_by_another_hash": temperature().replace(b"1.5", b"1.4"),
}


def npy(
    shape: str, kind: str = "'<i8'", body: bytes = b"", header: str | None = None, version: bytes = b"\1\0"
) -> bytes:
    """An array file with any header."""
    described = header or f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}"
    content = described.encode() + b"\n"
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\1\0" else "<I", len(content)) + content + body


def npz(members: Mapping[str, bytes], **changes: Any) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", changes.pop("compression", zipfile.ZIP_STORED)) as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    return content.getvalue()


def saved(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


GOOD = {"labels": np.zeros(2, int), "predictions": np.ones(2, int), "probabilities": np.full((2, 2), 0.5)}
NPZ = {
    "objects": saved(labels=np.array([{}], dtype=object)),
    "objects_that_call": npz({"labels.npy": npy("(1,)", "'|O'", CALLS["os_system"])}),
    "pickle": CALLS["os_system"],
    "pickle_as_an_array": npz({"labels.npy": CALLS["os_system"]}),
    "header_that_calls": npz({"labels.npy": npy("", header=f"__import__('os').system('{TOUCH}')")}),
    "descr_that_calls": npz({"labels.npy": npy("(1,)", f"__import__('os').system('{TOUCH}')")}),
    "header_of_parentheses": npz({"labels.npy": npy("", header="(" * 5000)}),
    "header_of_a_megabyte": npz({"labels.npy": npy("(1,)", header="{" + " " * 60_000 + "}")}),
    "shape_of_a_terabyte": npz({"labels.npy": npy("(1000000000000,)", body=b"x" * 8)}),
    "negative_shape": npz({"labels.npy": npy("(-1,)", body=b"x" * 8)}),
    "shape_beyond_64_bits": npz({"labels.npy": npy("(99999999999999999999999,)")}),
    "shape_of_text": npz({"labels.npy": npy("('a',)")}),
    "records": npz({"labels.npy": npy("(1,)", "[('a', '|O'), ('b', '<i4')]", body=b"x" * 12)}),
    "version_3": npz({"labels.npy": npy("(1,)", version=b"\3\0", body=b"x" * 8)}),
    "lacks_arrays": saved(labels=np.zeros(2, int)),
    "labels_beyond_classes": saved(**{**GOOD, "labels": np.array([0, 7])}),
    "negative_labels": saved(**{**GOOD, "labels": np.array([0, -1])}),
    "labels_of_text": saved(**{**GOOD, "labels": np.array(["a", "b"])}),
    "other_lengths": saved(**{**GOOD, "predictions": np.zeros(3, int)}),
    "probabilities_flat": saved(**{**GOOD, "probabilities": np.zeros(2)}),
    "a_thousand_arrays": npz({f"{i}.npy": npy("(0,)") for i in range(1000)}),
    "cut_short": saved(**GOOD)[:-30],
    "not_a_zip": b"PK\3\4" + b"x" * 100,
    "plain_array": npy("(1,)", body=b"x" * 8),
    "empty": b"",
    "says_two_gigabytes": saved(**GOOD).replace(struct.pack("<I", 144), struct.pack("<I", 2**31)),
}
TOP = {**GOOD, "top_classes": np.array([[0, 1], [1, 0]]), "num_classes": np.array(5)}
NPZ |= {
    "no_number_of_classes": saved(**{key: value for key, value in TOP.items() if key != "num_classes"}),
    "number_of_classes_of_text": saved(**{**TOP, "num_classes": np.array("5")}),
    "many_numbers_of_classes": saved(**{**TOP, "num_classes": np.array([5])}),
    "a_trillion_classes": saved(**{**TOP, "num_classes": np.array(10**12)}),
    "a_trillion_probabilities_of_no_image": npz(
        {
            **{f"{name}.npy": npy("(0,)") for name in ("labels", "predictions")},
            "probabilities.npy": npy("(0, 1000000000000)", "'<f4'"),
        }
    ),
    "negative_number_of_classes": saved(**{**TOP, "num_classes": np.array(-5)}),
    "top_beyond_classes": saved(**{**TOP, "top_classes": np.array([[0, 1], [1, 5]])}),
    "top_of_other_shape": saved(**{**TOP, "top_classes": np.array([0, 1])}),
    "top_of_numbers_with_decimals": saved(**{**TOP, "top_classes": np.array([[0.0, 1.0], [1.0, 0.0]])}),
}
CALIBRATION = {
    "scores": np.zeros(3),
    "means": np.zeros((2, 2)),
    "precisions": np.zeros((2, 2, 2)),
    "weights_sha256": np.array("a"),
}
CONFORMAL = {
    "good": saved(**CALIBRATION),
    "objects": NPZ["objects"],
    "pickle": NPZ["pickle"],
    "cut_short": saved(**CALIBRATION)[:-30],
    "no_scores": saved(**{name: array for name, array in CALIBRATION.items() if name != "scores"}),
    "scores_of_text": saved(**{**CALIBRATION, "scores": np.array(["a"])}),
    "a_score_that_is_no_number": saved(**{**CALIBRATION, "scores": np.array([np.nan])}),
    "scores_of_two_dimensions": saved(**{**CALIBRATION, "scores": np.zeros((3, 1))}),
    "means_of_other_classes": saved(**{**CALIBRATION, "means": np.zeros((3, 3))}),
    "precisions_of_an_image": saved(**{**CALIBRATION, "precisions": np.zeros((2, 2))}),
}
HASHES = {"images": 2, "files_sha256": "a", "values_sha256": "b"}
DATA = {
    **{
        name: content
        for name, content in JSON.items()
        if name in ("list", "text", "deep", "not_utf8", "empty", "pickle")
    },
    **{
        name: json.dumps({"splits": splits}).encode()
        for name, splits in {
            "splits_of_a_list": [1],
            "splits_of_null": None,
            "split_of_text": {"test": "all"},
            "no_images": {"test": {"files_sha256": "a", "values_sha256": "b"}},
            "images_of_text": {"test": {**HASHES, "images": "2"}},
            "truth_for_images": {"val": {**HASHES, "images": True}},
            "no_sha": {"train": {"images": 2}},
            "sha_of_a_list": {"train": {**HASHES, "files_sha256": ["a"]}},
            "hashes_of_numbers": {"test": {**HASHES, "hashes": [1, 2]}},
            "hashes_of_no_hex": {"test": {**HASHES, "hashes": "x" * 32}},
            "half_a_hash": {"test": {**HASHES, "hashes": "0" * 24}},
            "a_hash_too_few": {"test": {**HASHES, "hashes": "0" * 16}},
            "hashes_of_a_megabyte": {"test": {**HASHES, "hashes": "0" * 2**20}},
            "images_of_an_exabyte": {"test": {**HASHES, "images": 10**18, "hashes": "0" * 16}},
        }.items()
    },
}
CELLS = {
    name: f"true class,predicted class,count\n{rows}".encode()
    for name, rows in {
        "good": "0,1,1\n4,4,2\n",
        "class_beyond": "0,1,1\n5,0,1\n",
        "negative_class": "-1,0,1\n",
        "names_for_numbers": "a,b,1\n",
        "class_of_64_bits": f"{10**18 - 1},0,1\n",
        "huge_count": "0,0," + "9" * 5000 + "\n",
        "negative_count": "0,0,-1\n",
        "rows_of_two_cells": "0,1\n1,0\n0,1\n",
        "a_row_too_short": "0,1,1\n0,1\n",
        "a_field_of_a_megabyte": "0,1," + "1" * 2**20 + "\n",
        "null_bytes": "\0" * 1000,
    }.items()
}
CSV = {
    "no_counts": b"true,a,b\na,1,x\nb,1,2\n",
    "negative": b"true,a,b\na,1,-2\nb,1,2\n",
    "huge_count": b"true,a,b\na,1," + b"9" * 5000 + b"\nb,1,2\n",
    "not_square": b"true,a,b\na,1,2\n",
    "other_names": b"true,a,b\na,1,2\nc,1,2\n",
    "field_of_a_megabyte": b"true,a,b\na,1," + b"1" * 2**20 + b"\nb,1,2\n",
    "a_million_columns": b"true" + b",a" * 1_000_000 + b"\n",
    "not_utf8": b"true,\xff\n\xff,1\n",
    "null_bytes": b"\0" * 1000,
    "empty": b"",
    "pickle": CALLS["os_system"],
    "exotic_digits": "true,a\na,\u0661\n".encode(),
}


def idx(*shape: int, kind: int = 8, body: bytes = b"", axes: int | None = None) -> bytes:
    return struct.pack(">HBB", 0, kind, axes or len(shape)) + struct.pack(f">{len(shape)}I", *shape) + body


IDX = {
    "four_gigabytes_cubed": idx(2**32 - 1, 2**32 - 1, 2**32 - 1),
    "sixty_thousand_images_of_nothing": idx(60_000, 28, 28),
    "one_byte_too_few": idx(2, 28, 28, body=bytes(2 * 784 - 1)),
    "one_byte_too_many": idx(2, 28, 28, body=bytes(2 * 784 + 1)),
    "no_images": idx(0, 28, 28),
    "other_size": idx(2, 5, 5, body=bytes(50)),
    "one_axis": idx(6, body=bytes(6)),
    "no_axes": idx(axes=0),
    "many_axes": idx(1, 1, 1, 1, 1, body=b"x"),
    "axes_beyond_the_file": idx(1, axes=255),
    "floats": idx(2, 28, 28, kind=13, body=bytes(2 * 784 * 4)),
    "unknown_type": idx(2, 28, 28, kind=255, body=bytes(2 * 784)),
    "does_not_begin_with_zeros": b"\1" + idx(2, 28, 28, body=bytes(2 * 784))[1:],
    "fewer_than_labels": idx(1, 28, 28, body=bytes(784)),
    "empty": b"",
    "cut_in_its_header": idx(2, 28, 28)[:9],
    "pickle": CALLS["os_system"],
    "torch_archive": npz({"archive/data.pkl": CALLS["os_system"]}),
}
PACKED_IDX = {
    "more_than_it_says": gzip.compress(idx(2, 28, 28, body=bytes(2**24))),
    "less_than_it_says": gzip.compress(idx(2, 28, 28, body=bytes(99))),
    "says_a_terabyte": gzip.compress(idx(2**20, 2**10, 2**10, body=bytes(2**20))),
    "wrong_checksum": gzip.compress(idx(2, 28, 28, body=bytes(2 * 784)))[:-8] + bytes(8),
    "cut_short": gzip.compress(idx(2, 28, 28, body=bytes(2 * 784)))[:-10],
    "not_packed": idx(2, 28, 28, body=bytes(2 * 784)),
}


def tar(*members: tuple[str, Mapping[str, Any]], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    """An archive of members with any attributes; `content` is the content of a file."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, attributes in members:
            member = tarfile.TarInfo(name)
            content = attributes.get("content", b"")
            member.size = len(content)
            for key, value in attributes.items():
                if key != "content":
                    setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content) if content else None)
    return target.getvalue()


def zipped(*members: tuple[str, bytes, Mapping[str, Any]]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content, attributes in members:
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            for key, value in attributes.items():
                setattr(member, key, value)
            archive.writestr(member, content)
    return target.getvalue()


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> dict[str, Any]:
    return {"type": kind, "linkname": target}


def overlapping() -> bytes:
    """A zip file with two entries for the same bytes."""
    content = zipped(("a", b"x" * 100, {}), ("b", b"x" * 100, {}))
    start = content.index(b"PK\1\2", content.index(b"PK\1\2") + 1)
    return content[: start + 42] + bytes(4) + content[start + 46 :]


FILE = {"content": b"x"}
TARS = {
    "up": tar(("../out", FILE)),
    "up_in_the_middle": tar(("a/../../out", FILE)),
    "absolute": tar(("/tmp/out", FILE)),
    "to_the_canary": tar((CANARY, FILE)),
    "link_out": tar(("a", link("/etc/passwd"))),
    "link_then_file_through_it": tar(("a", link("..")), ("a/out", FILE)),
    "link_inside": tar(("b", FILE), ("a", link("b"))),
    "hard_link": tar(("a", link("/etc/passwd", tarfile.LNKTYPE))),
    "device": tar(("a", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5})),
    "block_device": tar(("a", {"type": tarfile.BLKTYPE, "devmajor": 8})),
    "fifo": tar(("a", {"type": tarfile.FIFOTYPE})),
    "sparse": tar(("a", {"type": tarfile.GNUTYPE_SPARSE}), form=tarfile.GNU_FORMAT),
    "unknown_type": tar(("a", {"type": b"Z"})),
    "twice": tar(("a", FILE), ("a", FILE)),
    "backslash": tar(("a\\..\\b", FILE)),
    "drive": tar(("C:/x", FILE)),
    "long_name": tar(("x" * 300, FILE)),
    "deep": tar(("a/" * 50 + "x", FILE)),
    "cut_short": tar(("a", {"content": b"x" * 5000}))[:2000],
    "bomb": tar(("a", {"content": bytes(30 * 2**20)}), mode="w:xz"),
    "header_bomb": tar(("x", {**FILE, "pax_headers": {"comment": "x" * 2**22}}), mode="w:gz"),
    "name_bomb": tar(("x" * 2**22, FILE), mode="w:gz", form=tarfile.GNU_FORMAT),
    "chained_headers": b"".join(tar(("a", {"pax_headers": {"comment": "x"}}))[:1024] for _ in range(3000)),
    "many_files": tar(*((f"f{i}", {}) for i in range(101))),
    "garbage": gzip.compress(bytes(range(256)) * 10),
    "damaged_xz": lzma.compress(b"x" * 5000)[:-20],
    "pickle": CALLS["os_system"],
    "empty": b"",
}  # fmt: skip
ZIPS = {
    "up": zipped(("../out", b"x", {})),
    "absolute": zipped(("/tmp/out", b"x", {})),
    "link": zipped(("a", b"/etc/passwd", {"external_attr": 0o120777 << 16, "create_system": 3})),
    "device": zipped(("a", b"", {"external_attr": 0o020666 << 16, "create_system": 3})),
    "bomb": zipped(("a", bytes(30 * 2**20), {})),
    "overlapping": overlapping(),
    "twice": zipped(("a", b"x", {}), ("./a", b"y", {})),
    "backslash": zipped(("..\\out", b"x", {})),
    "encrypted": zipped(("a", b"x", {})).replace(b"PK\3\4\x14\0\0\0", b"PK\3\4\x14\0\1\0").replace(
        b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0"
    ),
    "wrong_checksum": zipped(("a", b"hello", {})).replace(struct.pack("<I", zlib.crc32(b"hello")), b"abcd"),
    "cut_short": zipped(("a", b"hello" * 1000, {}))[:-30],
}  # fmt: skip
PACKED = {
    "bomb.gz": gzip.compress(bytes(2**26)),
    "bomb.bz2": bz2.compress(bytes(2**26)),
    "bomb.xz": lzma.compress(bytes(2**26)),
    "cut_short.gz": gzip.compress(b"hello" * 1000)[:-12],
    "garbage.gz": b"\x1f\x8b" + bytes(100),
    "pickle.bz2": CALLS["os_system"],
}


def pixels(described: Any, content: bytes = bytes(4), sha: bytes | None = None, length: int | None = None) -> bytes:
    """A file of decoded images with any description and its correct hash."""
    description = described if isinstance(described, bytes) else json.dumps(described).encode()
    size = len(description) if length is None else length
    return content + description + struct.pack("<Q", size) + (sha or hashlib.sha256(description).digest())


DESCRIBED = {"key": "k", "shape": [4, 1, 1, 1], "digests": [], "bad": {}, "hashes": ""}
STORE = {
    "no_keys": pixels({}),
    "a_list": pixels([]),
    "deep": pixels(b"[" * 100_000),
    "not_json": pixels(b"{"),
    "shape_of_a_terabyte": pixels({**DESCRIBED, "shape": [2**40]}),
    "sides_of_a_terabyte": pixels({**DESCRIBED, "shape": [2**40, 1, 1, 1], "digests": [[2**40, "x"]]}),
    "negative_shape": pixels({**DESCRIBED, "shape": [-2, -2, 1, 1]}),
    "shape_of_text": pixels({**DESCRIBED, "shape": "abcd"}),
    "no_checksums": pixels(DESCRIBED),
    "checksums_of_a_part": pixels({**DESCRIBED, "digests": [[1, "x"]]}),
    "checksums_that_go_back": pixels({**DESCRIBED, "digests": [[6, "x"], [-2, "x"]]}),
    "blocks_of_text": pixels({**DESCRIBED, "digests": ["abc"]}),
    "bad_is_a_number": pixels({**DESCRIBED, "shape": [0, 1, 1, 1], "bad": 1}, b""),
    "hashes_of_text": pixels({**DESCRIBED, "shape": [0, 1, 1, 1], "hashes": "xyz"}, b""),
    "longer_than_the_file": pixels({}, length=2**60),
    "wrong_hash": pixels({}, sha=bytes(32)),
    "pickle": CALLS["os_system"],
    "empty": b"",
}

NAMES = {
    "colour": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;pwned\x07",
    "hyperlink": "\x1b]8;;http://evil\x1b\\x\x1b]8;;\x1b\\",
    "clear": "\x1b[2J\x1b[H",
    "c1": "\x9b31mred",
    "line_feed": "a\nb",
    "carriage_return": "safe\rfake",
    "backspace": "abc\b\b\b",
    "null": "a\0b",
    "tab": "\tx",
    "right_to_left": "\u202egnp.exe",
    "isolate": "\u2066x\u2069",
    "zero_width": "a\u200bb",
    "separator": "a\u2028b",
    "surrogate": "\udcff",
    "markup": "[red]x[/red]",
    "closing_markup": "[/]",
    "markup_link": "[link=http://evil]x[/link]",
    "backslash": "\\[red]\\",
    "script": "<script>alert(1)</script>",
    "image": "![x](http://evil/x.png)",
    "markdown_link": "[x](javascript:alert(1))",
    "autolink": "<http://evil>",
    "bare_link": "http://evil.example/x",
    "entity": "&lt;b&gt;",
    "pipe": "a|b|c",
    "backtick": "`code` ``",
    "emphasis": "*a* _b_ **c** ~~d~~",
    "heading": "# a",
    "bullet": "- a",
    "ordered": "1. a",
    "quote": "> a",
    "rule": "---",
    "formula": "=cmd|' /C calc'!A0",
    "plus": "+1+1",
    "minus": "-2+3",
    "at": "@SUM(1)",
    "full_width": "＝1+1",
    "apostrophe": "'=1",
    "two_apostrophes": "''=1",
    "quotes": '"a","b"',
    "mathtext": "$x^2$",
    "broken_mathtext": "$\\frac{$",
    "escaped_dollar": "\\$a\\$",
    "interpolation": "${oc.env:HOME}",
    "format": "{0.__class__} %s %(a)s",
    "path": "../../etc/passwd",
    "long": "x" * 5000,
    "emoji": "😀 é",
    "empty": "",
}  # fmt: skip
