"""WebFace42M (2,059,906 people, 42 M pictures), iresnet100, CosFace 0.4.

Variants: `:full`, `:partial` (default, 0.2), `:mhs`.

insightface, PartialFC 0.2 on 16 GPUs: IJB-C 97.85 at FAR 1e-4 and 96.63 at 1e-5, MFR-ALL 96.69. PartialFC updates the
sampled rows alone; `--config.mesh.classes=N` splits the table, which is 4.2 GB in float32, over N devices. Expected
here: not measured by this project yet; it needs GPUs and the data.

    python main.py --config=configs/arcface_webface42m_r100.py --config.data.path=FOLDER_OF_train.rec
"""

from mhe_jax.recipes import faces, heads


def get_config(arg=""):
    return faces.make(
        arg,
        "r100",
        num_classes=2_059_906,
        sizes=(1_438, 1_433),
        margin=heads.margin("cosface"),
        variant="partial",
        sample_rate=0.2,
        learning_rate=0.3,
        warmup_epochs=1.0,
        epochs=20.0,
        batch=4096,
        weight_decay=5e-4,
    )
