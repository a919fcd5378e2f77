"""Wiki10-31K: 14,146 + 6,616 Wikipedia articles, 30,938 labels.

P@1/P@3/P@5 of the paper (their measurements): one encoder, 499x62 groups, 89.40/79.22/70.25 (table 5); three encoders
89.51/78.90/70.35 (table 3). The published scripts train this set one-hot (`:ohe,reference`). Others: LightXML, one,
87.8/77.3/68.0, three 89.45/78.96/69.85; XR-Transformer, three, 88.69/80.17/70.91; CascadeXML, three, 89.74 P@1. PSP@k
is published at A = 0.55, B = 1.5 (scripts of AttentionXML and pyxclib). Expected here: not run by this project, for
lack of the original files and a GPU. Hardware: one GPU.

    python main.py --config=configs/xmc_wiki31k.py:bert --config.data.path=Wiki10-31K
"""

from mhe_jax.recipes.propensity import DEFAULT
from mhe_jax.recipes.texts import make, recipe

RECIPES = {
    "bert": recipe(epochs=30, batch=16, max_length=512, swa=(4, 200)),
    "xlnet": recipe(epochs=30, batch=8, max_length=512, swa=(4, 200)),
    "roberta": recipe(epochs=30, batch=16, max_length=512, swa=(4, 400)),
}


def get_config(arg=""):
    data = {"path": "", "num_classes": 30938, "propensity": DEFAULT}
    return make(arg, data=data, recipes=RECIPES, head_sizes=(499, 62), own_valid=1000)
