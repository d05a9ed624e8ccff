"""`recipe=true`: the overrides that a model's yaml advises, on the data that they were found on."""

from omegaconf import DictConfig


def find_recipe(composed: DictConfig) -> list[str]:
    """The recipe of a composed config's model; nothing where none was asked for.

    Raises:
        ValueError: it has none, or one that was made for other data.
    """
    if not composed.get("recipe"):
        return []
    model, data = composed.model.name, composed.data.name
    recipe = [str(text) for text in composed.model.get("recipe") or []]
    if not recipe:
        raise ValueError(f"recipe=true, but model={model} has no recipe in its yaml")
    made_for = [str(name) for name in composed.model.get("recipe_data") or []]
    if data not in made_for:
        raise ValueError(
            f"recipe=true: the recipe of model={model} was made for data={','.join(made_for)}; on data={data} it may "
            "do worse than the defaults. Leave recipe=true out and choose trainer.epochs and optimizer.lr by "
            f"validation, or try the recipe all the same by writing it out: {' '.join(recipe)}"
        )
    return recipe
