"""Amazon-670K: 490,449 + 153,025 product texts, 670,091 labels.

P@1/P@3/P@5 of the paper (their measurements): one encoder, 8377x80 groups, 47.82/42.58/38.57 (table 5); three encoders
49.84/44.42/40.32 (table 3). Others, one model each: LightXML 47.14/42.02/38.23, CascadeXML 48.5/43.7/40.0, and one-hot
heads trained end to end: Renee 54.23/48.22/43.83 (RoBERTa-large), ELMO bfloat16 50.7/45.27/41.29 (BERT-base). Expected
here: not run by this project, for lack of the original files and a GPU; the head alone at this size is measured in
docs/results.md. Hardware: one GPU.

    python main.py --config=configs/xmc_amazon670k.py:bert --config.data.path=Amazon-670K
"""

from mhe_jax.recipes.propensity import AMAZON
from mhe_jax.recipes.texts import make, recipe

SETTINGS = {"batch": 32, "max_length": 128, "eval_step": 1000, "candidates": 75, "hidden": 400, "valid": 4000}
RECIPES = {name: recipe(epochs=15, swa=(1, 1000), **SETTINGS) for name in ("bert", "roberta", "xlnet")}


def get_config(arg=""):
    data = {"path": "", "num_classes": 670091, "propensity": AMAZON}
    return make(arg, data=data, recipes=RECIPES, large=True, head_sizes=(8377, 80))
