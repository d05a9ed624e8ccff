"""Many features of each image on a plane: principal components, and t-SNE (van der Maaten and Hinton, JMLR 2008)."""

import numpy as np

KEPT_COMPONENTS = 30  # from which t-SNE starts, as its authors do
PERPLEXITY = 30.0


def embed_features(features: np.ndarray, seed: int = 0) -> dict[str, np.ndarray]:
    """The places of images on two planes, by the name of the method: each float64 (N, 2).

    Args:
        features: float (N, D), N at least 3. Fewer than 10 images have no t-SNE.
        seed: of both methods; the same features give the same places.
    """
    from sklearn.decomposition import PCA

    features = features.astype(np.float64)
    components = min(KEPT_COMPONENTS, *features.shape)
    if components < 2:  # a layer with one unit
        features, components = np.pad(features, ((0, 0), (0, 2 - components))), 2
    # Signs of components are arbitrary; scikit-learn fixes them by the largest coordinate.
    reduced = PCA(components, svd_solver="full", random_state=seed).fit_transform(features)
    found = {"PCA": reduced[:, :2]}
    if len(features) >= 10 and np.ptp(reduced) > 0:
        from sklearn.manifold import TSNE

        perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
        found["t-SNE"] = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(reduced)
    return found
