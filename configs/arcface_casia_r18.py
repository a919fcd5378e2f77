"""CASIA-WebFace (10,572 people, 0.49 M pictures), iresnet18.

Variants: `:full`, `:partial`, `:mhs` (default), `:mhs,881x12`.

Paper, table 6 (their measurement; TAR at FAR 1e-2 for IJB): ArcFace-Full IJB-C 94.31, LFW 99.13, CFP-FP 93.26, AgeDB
92.98; PartFC-0.1 94.62, 99.12, 93.45, 93.23; MHS {12;881} 95.06, 99.15, 93.26, 92.93. Their shipped config says
{881;12}; which of the two made the table is not recorded. Groups of a batch are nearly all groups with {12;881}, and
some 13 % with {881;12}. Expected here: not measured by this project yet; it needs a GPU and the data. Hardware: 8
GPUs of 128 pictures.

    python main.py --config=configs/arcface_casia_r18.py --config.data.path=FOLDER_OF_train.rec
"""

from mhe_jax.recipes import faces


def get_config(arg=""):
    return faces.make(
        arg,
        "r18",
        num_classes=10_572,
        sizes=(12, 881),
        eval_sets=("lfw.bin", "cfp_fp.bin", "agedb_30.bin", "cplfw.bin", "calfw.bin", "cfp_ff.bin"),
        learning_rate=0.2,
        warmup_epochs=2.0,
        epochs=25.0,
        batch=1024,
    )
