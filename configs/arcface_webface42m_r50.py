"""WebFace42M (2,059,906 people, 42 M pictures), iresnet50, CosFace 0.4.

Variants: `:full`, `:partial` (default, 0.2), `:mhs`.

insightface's speed: some 5,900 pictures a second on 8 GPUs. PartialFC updates the sampled rows alone;
`--config.mesh.classes=N` splits the table, which is 4.2 GB in float32, over N devices. Expected here: not measured by
this project yet; it needs GPUs and the data.

    python main.py --config=configs/arcface_webface42m_r50.py --config.data.path=FOLDER_OF_train.rec
"""

from mhe_jax.recipes import faces, heads


def get_config(arg=""):
    return faces.make(
        arg,
        "r50",
        num_classes=2_059_906,
        sizes=(1_438, 1_433),
        margin=heads.margin("cosface"),
        variant="partial",
        sample_rate=0.2,
        learning_rate=0.6,
        warmup_epochs=4.0,
        epochs=20.0,
        batch=8192,
        weight_decay=5e-4,
    )
