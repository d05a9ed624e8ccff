"""Verdicts of claims that nobody ran, written as a run would: of real claims, of hostile names, of a class."""

from pathlib import Path

from cnnbench.claims.records import Answer, VerdictRecord, make_record, write_verdict
from cnnbench.claims.statement import choose_claims
from cnnbench.claims.verdict import compute_effects, judge_contrast
from cnnbench.cli.choices import find_config_dir

HOSTILE = "<script>window.pwned=1</script>\u202eevil\n" + "long name " * 60


def plant(name: str, means: dict[str, list[float]], prediction: Answer | None = None) -> VerdictRecord:
    """The record of a claim whose groups have these means, a list of one for each contrast."""
    (claim,) = choose_claims(find_config_dir() / "claim", [name])
    findings, all_values = [], []
    for number, contrast in enumerate(claim.contrasts):
        seeds = 1 if contrast.is_exact else claim.protocol["quick"].seeds
        values = {
            group: {seed: means[group][number] * (1 + 0.004 * ((seed * 7 + len(group)) % 5)) for seed in range(seeds)}
            for group in contrast.groups
        }
        findings.append(judge_contrast(contrast, [*compute_effects(contrast, values).values()]))
        all_values.append(values)
    return make_record(
        claim, findings, all_values, data="digits", scale="quick", prediction=prediction,
        runs=["../runs/0", "javascript:alert(1)", "../../../etc"],
    )  # fmt: skip


def plant_hostile(name: str, means: dict[str, list[float]]) -> VerdictRecord:
    """The same from somebody who wrote markup, reordering and very long text wherever text goes, and large numbers."""
    plain = plant(name, means, "yes").model_dump(mode="json")
    for key in ("statement", "question", "nuance", "equal"):
        plain[key] = {"en": HOSTILE, "pt": HOSTILE}
    plain |= {"data": HOSTILE, "command": HOSTILE, "created": HOSTILE, "problems": [HOSTILE], "version": HOSTILE}
    for contrast in plain["contrasts"]:
        renamed = {group: f"{HOSTILE}{number}" for number, group in enumerate(contrast["values"])}
        contrast["values"] = {
            renamed[group]: {**own, "7": 1e300, "8": None} for group, own in contrast["values"].items()
        }
        contrast |= {"group": renamed[contrast["group"]], "against": renamed[contrast["against"]]}
        contrast |= {"unit": HOSTILE, "measure": HOSTILE, "options": {HOSTILE: HOSTILE}, "high": 1e300}
        contrast["reason"] = {"en": HOSTILE, "pt": HOSTILE}
    return VerdictRecord.model_validate(plain)


C01 = {"LeNet-5": [0.98, 40000.0], "perceptron": [0.93, 100000.0]}
C01_UNCLEAR = {"LeNet-5": [0.948, 40000.0], "perceptron": [0.938, 100000.0]}


def write_class(folder: Path) -> list[Path]:
    """The folders of four students: two who agree, one who differs, and one with damaged files."""
    ana, bia, eve, dan = (folder / name for name in ("ana", "bia <script>", "eve", "dan"))
    agreed = plant("C01", C01, "yes")
    write_verdict(ana / "outputs/claims/digits-quick/C01", agreed)
    write_verdict(bia / "digits-quick/C01", agreed.model_copy(update={"prediction": "no", "held": False}))
    write_verdict(eve / "C01", plant("C01", {"LeNet-5": [0.9, 40000.0], "perceptron": [0.93, 100000.0]}, "yes"))
    (dan / "C01").mkdir(parents=True)
    (dan / "C01/verdict.json").write_text('{"id": ')
    return [ana, bia, eve, dan]
