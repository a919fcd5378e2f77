"""MS1MV3 (93,431 people, 5.2 M pictures), iresnet50. Variants: `:full`, `:partial`, `:mhs` (default, {13;7187}).

insightface's figures: IJB-C 96.37 at FAR 1e-4, 94.47 at 1e-5, LFW 99.80, CFP-FP 98.53, AgeDB 98.27. The published
system has no figure for iresnet50; its config for this set asks for the head sizes of CASIA and cannot run. Expected
here: not measured by this project yet; it needs GPUs and the data.

    python main.py --config=configs/arcface_ms1mv3_r50.py --config.data.path=FOLDER_OF_train.rec
"""

from mhe_jax.recipes import faces


def get_config(arg=""):
    return faces.make(
        arg, "r50", num_classes=93_431, sizes=(13, 7187), learning_rate=0.2, warmup_epochs=2.0, epochs=25.0, batch=1024
    )
