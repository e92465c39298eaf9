"""BMAD's Brain MRI: slices of BraTS 2021 with tumours and masks."""

from datamodules.components.bmad_layout import BMADLayout


class BMADBrain(BMADLayout):
    """Of BMAD, Bao et al., CVPR 2024 workshops; 7,500 training and 3,715 test images (as remembered)."""

    categories = ("brain",)
    source = "https://github.com/DorisBao/BMAD"
    obtain = "Fetch BMAD from the links of that page; its sources have terms. <root> is its folder Brain."
    licence = "terms of BraTS 2021, registration needed"
    citation = "Bao et al., BMAD: Benchmarks for Medical Anomaly Detection, 2023, arXiv:2306.11876; sources: BraTS 2021"
    aliases = ("bmad-brain", "BraTS2021")
    layout = "<root>/{train/good, test/{good,Ungood}}[/img] and <root>/test/Ungood/anomaly_mask"
    folder_name = "bmad_brain"
    defect = "tumour"
