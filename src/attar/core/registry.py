"""Every method by name: its verb, where it lives, one line, and its paper. Read without importing a method."""

import importlib
from dataclasses import dataclass
from typing import Any

from attar.core.errors import InputError, unknown


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    authors: str
    title: str
    venue: str
    year: int
    arxiv: str = ""

    def bibtex(self, key: str) -> str:
        """A BibTeX entry."""
        lines = {"title": f"{{{self.title}}}", "author": self.authors, "booktitle": self.venue, "year": str(self.year)}
        if self.arxiv:
            lines |= {"eprint": self.arxiv, "archivePrefix": "arXiv"}
        body = ",\n".join(f"  {name} = {{{value}}}" for name, value in lines.items())
        return f"@inproceedings{{{key},\n{body}\n}}"


@dataclass(frozen=True)
class Entry:
    """One method as the command line knows it."""

    name: str
    verb: str
    module: str
    settings: str
    summary: str
    paper: Paper | None = None
    extra: str = ""

    @property
    def kind(self) -> str:
        """What it makes smaller, by the folder it lives in: images, graphs, mixtures, convolution."""
        return self.module.split(".")[1]

    def load(self) -> Any:
        """Import the one module of this method and return its settings class.

        Raises:
            InputError: What it builds on is not installed.
        """
        try:
            return getattr(importlib.import_module(self.module), self.settings)
        except ModuleNotFoundError as error:
            if not self.extra or (error.name or "").startswith("attar"):
                raise
            raise InputError(f"{self.name} needs {error.name}: pip install 'attar[{self.extra}]'.") from None


_K_CENTER = Paper(
    "Sener, Ozan and Savarese, Silvio",
    "Active Learning for Convolutional Neural Networks: A Core-Set Approach",
    "ICLR",
    2018,
    "1708.00489",
)
_HERDING = Paper("Welling, Max", "Herding Dynamical Weights to Learn", "ICML", 2009)
_K_MEANS = Paper(
    "Cui, Justin and Wang, Ruochen and Si, Si and Hsieh, Cho-Jui",
    "DC-BENCH: Dataset Condensation Benchmark",
    "NeurIPS",
    2022,
    "2207.09639",
)
_DM = Paper("Zhao, Bo and Bilen, Hakan", "Dataset Condensation with Distribution Matching", "WACV", 2023, "2110.04181")
_DC = Paper(
    "Zhao, Bo and Mopuri, Konda Reddy and Bilen, Hakan",
    "Dataset Condensation with Gradient Matching",
    "ICLR",
    2021,
    "2006.05929",
)
_DSA = Paper(
    "Zhao, Bo and Bilen, Hakan",
    "Dataset Condensation with Differentiable Siamese Augmentation",
    "ICML",
    2021,
    "2102.08259",
)
_DCC = Paper(
    "Lee, Saehyung and Chun, Sanghyuk and Jung, Sangwon and Yun, Sangdoo and Yoon, Sungroh",
    "Dataset Condensation with Contrastive Signals",
    "ICML",
    2022,
    "2202.02916",
)
_DATADAM = Paper(
    "Sajedi, Ahmad and Khaki, Samir and Amjadian, Ehsan and Liu, Lucy Z. and Lawryshyn, Yuri A. "
    "and Plataniotis, Konstantinos N.",
    "DataDAM: Efficient Dataset Distillation with Attention Matching",
    "ICCV",
    2023,
    "2310.00093",
)
_ATOM = Paper(
    "Khaki, Samir and Sajedi, Ahmad and Wang, Kai and Liu, Lucy Z. and Lawryshyn, Yuri A. "
    "and Plataniotis, Konstantinos N.",
    "ATOM: Attention Mixer for Efficient Dataset Distillation",
    "CVPR workshop",
    2024,
    "2405.01373",
)
_MTT = Paper(
    "Cazenavette, George and Wang, Tongzhou and Torralba, Antonio and Efros, Alexei A. and Zhu, Jun-Yan",
    "Dataset Distillation by Matching Training Trajectories",
    "CVPR",
    2022,
    "2203.11932",
)
_TESLA = Paper(
    "Cui, Justin and Wang, Ruochen and Si, Si and Hsieh, Cho-Jui",
    "Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory",
    "ICML",
    2023,
    "2211.10586",
)
_FTD = Paper(
    "Du, Jiawei and Jiang, Yidi and Tan, Vincent Y. F. and Zhou, Joey Tianyi and Li, Haizhou",
    "Minimizing the Accumulated Trajectory Error to Improve Dataset Distillation",
    "CVPR",
    2023,
    "2211.11004",
)
_DATM = Paper(
    "Guo, Ziyao and Wang, Kai and Cazenavette, George and Li, Hui and Zhang, Kaipeng and You, Yang",
    "Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching",
    "ICLR",
    2024,
    "2310.05773",
)
_AST = Paper(
    "Shen, Jiyuan and Yang, Wenzhuo and Lam, Kwok-Yan",
    "AST: Effective Dataset Distillation through Alignment with Smooth and High-Quality Expert Trajectories",
    "arXiv",
    2023,
    "2310.10541",
)
_EDF = Paper(
    "Wang, Kai and Li, Zekai and Cheng, Zhi-Qi and Khaki, Samir and Sajedi, Ahmad and Vedantam, Ramakrishna "
    "and Plataniotis, Konstantinos N. and Hauptmann, Alexander and You, Yang",
    "Emphasizing Discriminative Features for Dataset Distillation in Complex Scenarios",
    "CVPR",
    2025,
    "2410.17193",
)
_RDED = Paper(
    "Sun, Peng and Shi, Bei and Yu, Daiwei and Lin, Tao",
    "On the Diversity and Realism of Distilled Dataset: An Efficient Dataset Distillation Paradigm",
    "CVPR",
    2024,
    "2312.03526",
)
_HELLO = Paper(
    "Yu, Ruonan and Liu, Songhua and Chen, Zigeng and Ye, Jingwen and Wang, Xinchao",
    "Heavy Labels Out! Dataset Distillation with Label Space Lightening",
    "ICCV",
    2025,
    "2408.08201",
)
_SRE2L = Paper(
    "Yin, Zeyuan and Xing, Eric and Shen, Zhiqiang",
    "Squeeze, Recover and Relabel: Dataset Condensation at ImageNet Scale From A New Perspective",
    "NeurIPS",
    2023,
    "2306.13092",
)
_CDA = Paper(
    "Yin, Zeyuan and Shen, Zhiqiang",
    "Dataset Distillation via Curriculum Data Synthesis in Large Data Era",
    "TMLR",
    2024,
    "2311.18838",
)

_GSTAM = Paper(
    "Rasti-Meymandi, Arash and Sajedi, Ahmad and Xu, Zhaopan and Plataniotis, Konstantinos N.",
    "GSTAM: Efficient Graph Distillation with Structural Attention-Matching",
    "ECCV workshop",
    2024,
    "2408.16871",
)
_DOSCOND = Paper(
    "Jin, Wei and Tang, Xianfeng and Jiang, Haoming and Li, Zheng and Zhang, Danqing and Tang, Jiliang and Yin, Bing",
    "Condensing Graphs via One-Step Gradient Matching",
    "KDD",
    2022,
    "2206.07746",
)
_OGGMR = Paper(
    "Sajedi, Ahmad and Lawryshyn, Yuri A. and Plataniotis, Konstantinos N.",
    "A New Probabilistic Distance Metric With Application in Gaussian Mixture Reduction",
    "ICASSP",
    2023,
    "2306.07309",
)
_RUNNALLS = Paper(
    "Runnalls, Andrew R.",
    "Kullback-Leibler Approach to Gaussian Mixture Reduction",
    "IEEE TAES",
    2007,
)
_SALMOND = Paper(
    "Salmond, David J.",
    "Mixture Reduction Algorithms for Target Tracking in Clutter",
    "SPIE",
    1990,
)
_WEST = Paper(
    "West, Mike",
    "Approximating Posterior Distributions by Mixtures",
    "JRSS B",
    1993,
)
_WILLIAMS = Paper(
    "Williams, Jason L. and Maybeck, Peter S.",
    "Cost-Function-Based Gaussian Mixture Reduction for Target Tracking",
    "FUSION",
    2003,
)
_GMRC = Paper(
    "Schieferdecker, Dennis and Huber, Marco F.",
    "Gaussian Mixture Reduction via Clustering",
    "FUSION",
    2009,
)
_COWA = Paper(
    "Chen, Huimin and Chang, Kuo-Chu and Smith, Christopher",
    "Constraint Optimized Weight Adaptation for Gaussian Mixture Reduction",
    "SPIE",
    2010,
)
_CTDGMR = Paper(
    "Zhang, Qiong and Zhang, Archer Gong and Chen, Jiahua",
    "Gaussian Mixture Reduction with Composite Transportation Divergence",
    "arXiv",
    2020,
    "2002.08410",
)
_CPO = Paper(
    "Amer, Hossam and Salamah, Ahmed H. and Sajedi, Ahmad and Yang, En-hui",
    "High Performance Convolution Using Sparsity and Patterns for Inference in Deep Convolutional Neural Networks",
    "arXiv",
    2021,
    "2104.08314",
)
_KD = Paper(
    "Hinton, Geoffrey and Vinyals, Oriol and Dean, Jeff",
    "Distilling the Knowledge in a Neural Network",
    "arXiv",
    2015,
    "1503.02531",
)
_DKD = Paper(
    "Zhao, Borui and Cui, Quan and Song, Renjie and Qiu, Yiyu and Liang, Jiajun",
    "Decoupled Knowledge Distillation",
    "CVPR",
    2022,
    "2203.08679",
)
_DIST = Paper(
    "Huang, Tao and You, Shan and Wang, Fei and Qian, Chen and Xu, Chang",
    "Knowledge Distillation from A Stronger Teacher",
    "NeurIPS",
    2022,
    "2205.10536",
)
_FITNETS = Paper(
    "Romero, Adriana and Ballas, Nicolas and Kahou, Samira Ebrahimi and Chassang, Antoine and Gatta, "
    "Carlo and Bengio, Yoshua",
    "FitNets: Hints for Thin Deep Nets",
    "ICLR",
    2015,
    "1412.6550",
)
_ATTENTION = Paper(
    "Zagoruyko, Sergey and Komodakis, Nikos",
    "Paying More Attention to Attention: Improving the Performance of Convolutional Neural Networks via "
    "Attention Transfer",
    "ICLR",
    2017,
    "1612.03928",
)
_RKD = Paper(
    "Park, Wonpyo and Kim, Dongju and Lu, Yan and Cho, Minsu",
    "Relational Knowledge Distillation",
    "CVPR",
    2019,
    "1904.05068",
)
_SP = Paper(
    "Tung, Frederick and Mori, Greg",
    "Similarity-Preserving Knowledge Distillation",
    "ICCV",
    2019,
    "1907.09682",
)
_PKT = Paper(
    "Passalis, Nikolaos and Tefas, Anastasios",
    "Learning Deep Representations with Probabilistic Knowledge Transfer",
    "ECCV",
    2018,
    "1803.10837",
)
_VID = Paper(
    "Ahn, Sungsoo and Hu, Shell Xu and Damianou, Andreas and Lawrence, Neil D. and Dai, Zhenwen",
    "Variational Information Distillation for Knowledge Transfer",
    "CVPR",
    2019,
    "1904.05835",
)
_CC = Paper(
    "Peng, Baoyun and Jin, Xiao and Liu, Jiaheng and Zhou, Shunfeng and Wu, Yichao and Liu, Yu and Li, Dongsheng "
    "and Zhang, Zhaoning",
    "Correlation Congruence for Knowledge Distillation",
    "ICCV",
    2019,
    "1904.01802",
)
_NST = Paper(
    "Huang, Zehao and Wang, Naiyan",
    "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer",
    "arXiv",
    2017,
    "1707.01219",
)
_CRD = Paper(
    "Tian, Yonglong and Krishnan, Dilip and Isola, Phillip",
    "Contrastive Representation Distillation",
    "ICLR",
    2020,
    "1910.10699",
)
_REVIEWKD = Paper(
    "Chen, Pengguang and Liu, Shu and Zhao, Hengshuang and Jia, Jiaya",
    "Distilling Knowledge via Knowledge Review",
    "CVPR",
    2021,
    "2104.09044",
)
_SKD = Paper(
    "Sajedi, Ahmad and Lawryshyn, Yuri A. and Plataniotis, Konstantinos N.",
    "Subclass Knowledge Distillation with Known Subclass Labels",
    "IVMSP",
    2022,
    "2207.08063",
)
_DISCOVERY = Paper(
    "Müller, Rafael and Kornblith, Simon and Hinton, Geoffrey", "Subclass Distillation", "arXiv", 2020, "2002.03936"
)
_ND = Paper(
    "Wang, Yuzhu and Cheng, Lechao and Duan, Manni and Wang, Yongheng and Feng, Zunlei and Kong, Shu",
    "Improving Knowledge Distillation via Regularizing Feature Norm and Direction",
    "arXiv",
    2023,
    "2305.17007",
)
_REVISION = Paper(
    "Liu, Xiaoyu and Zhang, Yun and Li, Wei and Li, Simiao and Huang, Xudong and Chen, Hanting and Tang, Yehui "
    "and Hu, Jie and Xiong, Zhiwei and Wang, Yunhe",
    "Multi-Granularity Semantic Revision for Large Language Model Distillation",
    "arXiv",
    2024,
    "2407.10068",
)
_DHKD = Paper(
    "Yang, Penghui and Zong, Chen-Chen and Huang, Sheng-Jun and Feng, Lei and An, Bo",
    "Dual-Head Knowledge Distillation: Enhancing Logits Utilization with an Auxiliary Head",
    "KDD",
    2025,
    "2411.08937",
)


def _condense(name: str, home: str, summary: str, paper: Paper | None = None) -> Entry:
    module, settings = home.split(":")
    return Entry(name, "condense", f"attar.images.condense.{module}", settings, summary, paper)


def _graphs(name: str, home: str, summary: str, paper: Paper | None = None) -> Entry:
    module, settings = home.split(":")
    return Entry(name, "condense", f"attar.graphs.{module}", settings, summary, paper)


def _compress(name: str, home: str, summary: str, paper: Paper | None = None) -> Entry:
    module, settings = home.split(":")
    return Entry(name, "compress", f"attar.{module}", settings, summary, paper)


def _distill(name: str, home: str, summary: str, paper: Paper | None = None) -> Entry:
    module, settings = home.split(":")
    return Entry(name, "distill", f"attar.classifiers.{module}", settings, summary, paper)


METHODS = {
    entry.name: entry
    for entry in [
        _condense("random", "coresets:Random", "real images drawn at random: the floor"),
        _condense("class-mean", "coresets:ClassMean", "the average image of each class"),
        _condense("herding", "coresets:Herding", "real images whose mean embedding follows the class's", _HERDING),
        _condense("k-center", "coresets:KCenter", "real images that cover the class's embeddings", _K_CENTER),
        _condense("k-means", "coresets:KMeans", "cluster centres of each class, in pixels or embeddings", _K_MEANS),
        _condense("dm", "dm:DM", "match mean embeddings of random networks", _DM),
        _condense("datadam", "datadam:DataDAM", "match where random networks look, and mean embeddings", _DATADAM),
        _condense("atom", "atom:ATOM", "match where random networks look, and which features answer", _ATOM),
        _condense("dc", "dc:DC", "match the gradients of class after class", _DC),
        _condense("dsa", "dsa:DSA", "the same, real and synthetic images augmented alike", _DSA),
        _condense("dcc", "dcc:DCC", "match the gradient of all classes together", _DCC),
        _condense("mtt", "mtt:MTT", "a student goes in few steps where experts go in epochs", _MTT),
        _condense("tesla", "tesla:TESLA", "the same by a truncated gradient, with labels from experts", _TESLA),
        _condense("ftd", "ftd:FTD", "the same with experts in flat minima", _FTD),
        _condense("datm", "datm:DATM", "the same with learned soft labels, early or late on the way", _DATM),
        _condense("ast", "ast:AST", "the same with smooth experts, matched on the way too", _AST),
        _condense("edf", "edf:EDF", "the same with more on the pixels that tell classes apart", _EDF),
        _condense("rded", "rded:RDED", "real crops that a trained network finds typical, tiled", _RDED),
        _condense("hello", "hello:HeLlO", "the same, with a small projector that labels", _HELLO),
        _condense("sre2l", "sre2l:SRe2L", "images from what a trained network's batch norm remembers", _SRE2L),
        _condense("cda", "cda:CDA", "the same, from whole views to small crops", _CDA),
        _condense("relabel", "relabel:Relabelled", "real images with the mean answers of trained networks"),
        _graphs("gstam", "gstam:GSTAM", "match which channels of random graph networks answer together", _GSTAM),
        _graphs("doscond", "doscond:DosCond", "match gradients at random graph networks, edges as coins", _DOSCOND),
        _graphs("graph-start", "coresets:GraphStart", "the real graphs that the learning methods start from"),
        _graphs("graph-random", "coresets:GraphRandom", "real graphs drawn at random, of their own sizes: the floor"),
        _graphs(
            "graph-herding", "coresets:GraphHerding", "real graphs whose mean embedding follows the class's", _HERDING
        ),
        _graphs("graph-k-center", "coresets:GraphKCenter", "real graphs that cover the class's embeddings", _K_CENTER),
        _compress(
            "oggmr", "mixtures.oggmr:OGGMR", "merge by distance to the original, then optimise everything", _OGGMR
        ),
        _compress(
            "runnalls", "mixtures.runnalls:Runnalls", "merge by a bound on the KL divergence; the fast one", _RUNNALLS
        ),
        _compress("salmond", "mixtures.salmond:Salmond", "merge the pair whose means lie closest", _SALMOND),
        _compress("west", "mixtures.west:West", "merge the lightest component with its nearest", _WEST),
        _compress(
            "williams", "mixtures.williams:Williams", "merge by integral squared error, then optimise it", _WILLIAMS
        ),
        _compress("gmrc", "mixtures.gmrc:GMRC", "k-means of components by KL, then least squared error", _GMRC),
        _compress("cowa", "mixtures.cowa:COWA", "West's merging with best weights after each merge", _COWA),
        _compress("ctdgmr", "mixtures.ctdgmr:CTDGMR", "least cost of moving components: KL, W2, ISE, CS", _CTDGMR),
        _compress("direct", "mixtures.direct:Direct", "least ISE, NISE or Cauchy-Schwarz from several starts"),
        _compress(
            "brute-force", "mixtures.brute_force:BruteForce", "every partition into merged groups, up to 12 components"
        ),
        _compress(
            "conv", "convolution.command:CompressConvolution", "each convolution by the fastest of seven ways", _CPO
        ),
        _distill("alone", "alone:Alone", "the student on the labels, which every teacher has to beat"),
        _distill("kd", "kd:KD", "a teacher's softened answers beside the labels", _KD),
        _distill("dkd", "dkd:DKD", "the right class and the ranking of the others, weighed apart", _DKD),
        _distill("dist", "dist:DIST", "answers correlated with the teacher's", _DIST),
        _distill("fitnets", "fitnets:FitNets", "what a layer of the teacher gives, through a regressor", _FITNETS),
        _distill("attention", "attention:AttentionTransfer", "where the teacher looks, stage by stage", _ATTENTION),
        _distill("rkd", "rkd:RKD", "the teacher's distances and angles between samples", _RKD),
        _distill("sp", "sp:SP", "which samples the teacher finds alike", _SP),
        _distill("pkt", "pkt:PKT", "how likely samples are to be alike, as the teacher has it", _PKT),
        _distill("vid", "vid:VID", "the teacher's stages, guessed with a variance for each channel", _VID),
        _distill("cc", "cc:CC", "how samples are correlated, by neighbours or by a kernel", _CC),
        _distill("nst", "nst:NST", "how the patterns of channels are spread, stage by stage", _NST),
        _distill("crd", "crd:CRD", "embeddings told apart by the teacher's, among thousands", _CRD),
        _distill("reviewkd", "reviewkd:ReviewKD", "the teacher's stages, handed from deep to shallow", _REVIEWKD),
        _distill("skd", "skd:SubclassKD", "answers about subclasses, where classes are few", _SKD),
        _distill("discover", "discovery:Discover", "a teacher of subclasses that it finds by itself", _DISCOVERY),
        _distill("nd", "nd:ND", "features as long as the teacher's, towards its class means", _ND),
        Entry(
            "language",
            "distill",
            "attar.language.distillation",
            "DistillLanguage",
            "language models: by token, span and corrected answer",
            _REVISION,
            "transformers",
        ),
        _distill("dhkd", "dhkd:DHKD", "raw logits on a second head that is thrown away", _DHKD),
    ]
}


def find(name: str, verb: str | None = None) -> Entry:
    """The entry of a method.

    Raises:
        InputError: No method of that name, or it belongs to another verb.
    """
    name = name.replace("_", "-")
    if name not in METHODS:
        raise unknown("method", name, [n for n, entry in METHODS.items() if verb in (None, entry.verb)])
    entry = METHODS[name]
    if verb not in (None, entry.verb):
        raise InputError(f"{name} is used with `attar {entry.verb}`, not `attar {verb}`.")
    return entry
