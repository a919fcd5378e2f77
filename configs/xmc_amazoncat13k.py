"""AmazonCat-13K: 1,186,239 + 306,782 product texts, 13,330 labels.

P@1/P@3/P@5 of the paper (their measurements): one encoder, 310x43 groups, 95.94/82.29/66.73, 155x86 95.83/82.10/66.47
(table 5); three encoders 96.81/84.07/68.75 (table 3). The published scripts train this set one-hot (`:ohe,reference`).
Others: AttentionXML, one, 95.65/81.93/66.90; LightXML, three, 96.77/84.02/68.70; XR-Transformer, three,
96.79/83.66/68.04. PSP@k is at A = 0.55, B = 1.5, as by the scripts of AttentionXML and pyxclib; for publications that
take Amazon's constants for this set too, `--config.data.propensity=(0.6,2.6)`. Expected here: not run by this project,
for lack of the original files and a GPU. Hardware: one GPU.

    python main.py --config=configs/xmc_amazoncat13k.py:bert --config.data.path=AmazonCat-13K
"""

from mhe_jax.recipes.propensity import DEFAULT
from mhe_jax.recipes.texts import make, recipe

RECIPES = {
    "bert": recipe(epochs=5, batch=16, max_length=512, swa=(2, 5000), eval_step=5000),
    "roberta": recipe(epochs=5, batch=16, max_length=512, swa=(2, 10000), eval_step=5000),
    "xlnet": recipe(epochs=5, batch=32, max_length=128, swa=(2, 10000), eval_step=5000),
}


def get_config(arg=""):
    data = {"path": "", "num_classes": 13330, "propensity": DEFAULT}
    return make(arg, data=data, recipes=RECIPES, head_sizes=(310, 43), own_valid=4000)
