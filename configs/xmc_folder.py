"""One's own documents: a folder with train.jsonl and test.jsonl, a line `{"text": ..., "labels": [...]}` each.

They may also be CSV, TSV or Parquet files, or fastText's; every other layout of the field is found too, see
mhe_jax/data/texts/formats. A tenth of the training documents, or those of a validation file, chooses the best weights,
and the test documents, if there are any, are evaluated once. The head is a cascade with balanced groups; `:ohe` takes
one logit per label, which is the baseline to beat and fits up to some 100,000 labels.
No published figure. Hardware: one GPU; `minilm` is small enough for a CPU and some thousand documents.

    python main.py --config=configs/xmc_folder.py --config.data.path=DIR
"""

from mhe_jax.recipes.texts import make, recipe

# Of CSV, TSV and Parquet files; empty: found by the usual names.
COLUMNS = {"text_column": "", "label_column": "", "label_separator": ""}
RECIPES = {"minilm": recipe(epochs=10, batch=32, max_length=256, swa=(2, 100), candidates=0)}


def get_config(arg=""):
    return make(arg, data={"path": "", **COLUMNS}, recipes=RECIPES, head_sizes=(), encoder="minilm", own_valid=0.1)
