"""EURLEX57K: 45,000 EU laws to train, 6,000 of the dev split to test, 4,197 EuroVoc labels in use, 5.07 per law.

No published figure for these splits: EURLEX57K (Chalkidis et al. 2019) is not EUR-Lex-4K. Expected: docs/results.md.
The floor is that of TF-IDF nearest neighbours,
`mhe baseline --config=configs/xmc_eurlex57k.py --config.data.path=Eurlex-57K`.
Hardware: one GPU; `minilm` and a few thousand documents (`--config.data.max_train=4000`) for a CPU.

    python main.py --config=configs/xmc_eurlex57k.py:minilm --config.data.path=Eurlex-57K
"""

from mhe_jax.recipes.texts import make, recipe

RECIPES = {
    "minilm": recipe(epochs=20, batch=16, max_length=256, swa=(4, 100), candidates=0),
    "bert": recipe(epochs=20, batch=16, max_length=512, swa=(4, 100), candidates=0),
}


def get_config(arg=""):
    data = {"path": "", "num_classes": 4197}
    return make(arg, data=data, recipes=RECIPES, head_sizes=(86, 0), encoder="minilm", own_valid=2000)
