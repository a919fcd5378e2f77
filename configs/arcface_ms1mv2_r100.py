"""MS1MV2 (85,742 people, 5.8 M pictures), iresnet100. Variants: `:full`, `:partial`, `:mhs` (default, {43;1994}).

Paper, table 6 (their measurement; IJB at FAR 1e-4): ArcFace-Full IJB-B 94.80, IJB-C 96.20, LFW 99.83, CFP-FP 98.45,
AgeDB 98.20; PartFC-0.1 94.40, 95.80, 99.82, 98.48, 98.13; MHS {43;1994} 94.50, 95.85, 99.83, 98.64, 98.40.
insightface's model zoo: IJB-C 96.37 at 1e-4, 94.27 at 1e-5. The paper ships no config for this set; the recipe is
that of MS1MV3 in insightface. Expected here: not measured by this project yet; it needs GPUs and the data.

    python main.py --config=configs/arcface_ms1mv2_r100.py --config.data.path=FOLDER_OF_train.rec
"""

from mhe_jax.recipes import faces


def get_config(arg=""):
    return faces.make(
        arg, "r100", num_classes=85_742, sizes=(43, 1994), learning_rate=0.2, warmup_epochs=2.0, epochs=25.0, batch=1024
    )
