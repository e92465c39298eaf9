"""BMAD's Retina OCT of RESC: oedemas with masks."""

from datamodules.components.bmad_layout import BMADLayout


class BMADRESC(BMADLayout):
    """Of BMAD, Bao et al., CVPR 2024 workshops; 4,297 training and 1,805 test images (as remembered)."""

    categories = ("retina",)
    source = "https://github.com/DorisBao/BMAD"
    obtain = "Fetch BMAD from the links of that page; its sources have terms. <root> is its folder RESC."
    licence = "terms of RESC"
    citation = "Bao et al., BMAD: Benchmarks for Medical Anomaly Detection, 2023, arXiv:2306.11876; sources: RESC"
    aliases = ("bmad-retina", "RESC", "bmad_retina")
    layout = "<root>/{train/good, test/{good,Ungood}}[/img] and <root>/test/Ungood/anomaly_mask"
    folder_name = "bmad_resc"
    defect = "oedema"
