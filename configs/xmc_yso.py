"""YSO: 174,597 English titles of Finnish libraries to train, 20,000 to test; 27,754 concepts, 24,547 of them in use.

No published figure for these splits. The floor is that of TF-IDF nearest neighbours,
`mhe baseline --config=configs/xmc_yso.py --config.data.path=YSO-titles`. Expected: docs/results.md.
Hardware: one GPU; `minilm` and some thousand titles (`--config.data.max_train=40000`) for a CPU.

    python main.py --config=configs/xmc_yso.py:minilm --config.data.path=YSO-titles
"""

from mhe_jax.recipes.texts import make, recipe

RECIPES = {
    "minilm": recipe(epochs=20, batch=64, max_length=32, swa=(4, 500), candidates=0),
    "bert": recipe(epochs=20, batch=64, max_length=32, swa=(4, 500), candidates=0),
}


def get_config(arg=""):
    data = {"path": "", "num_classes": 27754}
    return make(arg, data=data, recipes=RECIPES, head_sizes=(448, 0), encoder="minilm", own_valid=4000)
