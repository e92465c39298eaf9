"""BMAD's Liver CT: slices of BTCV and LiTS with tumours and masks."""

from datamodules.components.bmad_layout import BMADLayout


class BMADLiver(BMADLayout):
    """Of BMAD, Bao et al., CVPR 2024 workshops; 1,542 training and 1,493 test images (as remembered)."""

    categories = ("liver",)
    source = "https://github.com/DorisBao/BMAD"
    obtain = "Fetch BMAD from the links of that page; its sources have terms. <root> is its folder Liver."
    licence = "terms of BTCV and LiTS"
    citation = "Bao et al., BMAD: Benchmarks for Medical Anomaly Detection, 2023, arXiv:2306.11876; sources: BTCV, LiTS"
    aliases = ("bmad-liver",)
    layout = "<root>/{train/good, test/{good,Ungood}}[/img] and <root>/test/Ungood/anomaly_mask"
    folder_name = "bmad_liver"
    defect = "tumour"
