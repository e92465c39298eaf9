"""BMAD's Retina OCT of OCT2017: image level."""

from datamodules.components.bmad_layout import BMADLayout


class BMADOCT2017(BMADLayout):
    """Of BMAD, Bao et al., CVPR 2024 workshops; 26,315 training and 968 test images (as remembered)."""

    categories = ("retina",)
    source = "https://github.com/DorisBao/BMAD"
    obtain = "Fetch BMAD from the links of that page; its sources have terms. <root> is its folder OCT2017."
    licence = "CC BY 4.0 of OCT2017, not verified"
    citation = "Bao et al., BMAD: Benchmarks for Medical Anomaly Detection, 2023, arXiv:2306.11876; sources: OCT2017"
    aliases = ("OCT2017", "bmad-oct2017")
    layout = "<root>/{train/good, test/{good,Ungood}}[/img]"
    folder_name = "bmad_oct2017"
    has_masks = False
    defect = "disease"
