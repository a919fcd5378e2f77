"""Amazon-3M: 1,717,899 + 742,507 product texts, 2,812,281 labels.

P@1/P@3/P@5 of the paper (their measurements): one encoder, 8761x321 groups, 50.26/47.34/44.58 (table 5); three encoders
53.12/49.54/47.05 (table 3). Others: XR-Transformer, one, 52.6/49.4/46.9; one-hot heads trained end to end: Renee
54.84/52.08/49.77 (RoBERTa-large), ELMO bfloat16 53.4/50.9/48.8 (BERT-base). Expected here: not run by this project, for
lack of the original files and a GPU. Hardware: one GPU.

    python main.py --config=configs/xmc_amazon3m.py:bert --config.data.path=Amazon-3M
"""

from mhe_jax.recipes.propensity import AMAZON
from mhe_jax.recipes.texts import make, recipe

SETTINGS = {"batch": 16, "max_length": 128, "eval_step": 40000, "candidates": 30, "hidden": 400}
RECIPES = {name: recipe(epochs=5, swa=(0, 10000), **SETTINGS) for name in ("bert", "roberta", "xlnet")}


def get_config(arg=""):
    data = {"path": "", "num_classes": 2812281, "propensity": AMAZON}
    return make(arg, data=data, recipes=RECIPES, large=True, head_sizes=(8761, 321), own_valid=4000)
