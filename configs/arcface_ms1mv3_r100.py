"""MS1MV3 (93,431 people, 5.2 M pictures), iresnet100. Variants: `:full`, `:partial`, `:mhs` (default, {13;7187}).

Paper, table 6 (their measurement; IJB-C at FAR **1e-5**): ArcFace-Full 95.02, LFW 99.85, CFP-FP 98.99, AgeDB 98.55;
MHS {13;7187} 95.06, 99.87, 99.17, 98.55. insightface: IJB-C 96.85 at 1e-4 and 95.02 at 1e-5. `:reference` has the
published MHS settings, five epochs at rate 0.001 without warm-up, which fine-tune a finished model: give it with
--config.init_from. Expected here: not measured by this project yet; it needs GPUs and the data.

    python main.py --config=configs/arcface_ms1mv3_r100.py --config.data.path=FOLDER_OF_train.rec
"""

from mhe_jax.recipes import faces


def get_config(arg=""):
    published = "reference" in arg and not {"full", "partial"} & set(arg.split(","))
    return faces.make(
        arg,
        "r100",
        num_classes=93_431,
        sizes=(13, 7187),
        learning_rate=0.001 if published else 0.2,
        epochs=5.0 if published else 25.0,
        batch=1024,
    )
