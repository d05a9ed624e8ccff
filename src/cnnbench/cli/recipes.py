"""Overrides that come from YAML files: a model's recipe, and a preset's exceptions for a dataset."""

from omegaconf import DictConfig


def find_recipe(composed: DictConfig) -> list[str]:
    """The recipe of a composed config's model, if `recipe=true`.

    Raises:
        ValueError: the model has no recipe, or one that was made for other data.
    """
    if not composed.get("recipe"):
        return []
    model, data = composed.model.name, composed.data.name
    recipe = [str(text) for text in composed.model.get("recipe") or []]
    if not recipe:
        raise ValueError(f"recipe=true, but the YAML file of model={model} has no recipe")
    made_for = [str(name) for name in composed.model.get("recipe_data") or []]
    if data not in made_for:
        raise ValueError(
            f"recipe=true: the recipe of model={model} was made for data={','.join(made_for)}; on data={data} it may "
            "do worse than the defaults. Leave recipe=true out and choose trainer.epochs and optimizer.lr by "
            f"validation, or apply the recipe anyway by writing it out: {' '.join(recipe)}"
        )
    return recipe


def find_exceptions(composed: DictConfig) -> list[str]:
    """The overrides that a composed config's augmentation preset has for its dataset in particular."""
    return [
        f"augment.{key}={value}"
        for exception in composed.augment.get("exceptions") or []
        if composed.data.name in exception.data
        for key, value in exception.items()
        if key != "data"
    ]
