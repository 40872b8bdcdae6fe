"""Attention pooling whose most and least attended tiles are told apart: CLAM with one and with several branches.

Lu, Williamson, Chen, Chen, Barbieri, Mahmood: Data-efficient and weakly supervised computational pathology on
whole-slide images, Nature Biomedical Engineering 2021, section "CLAM". https://arxiv.org/abs/2004.09666

    attention a_ic = softmax_i( w_c^T ( tanh(V h_i) * sigmoid(U h_i) ) ),    z_c = sum_i a_ic h_i
    instance clustering, branch c: in a bag of class c the k tiles of highest a_ic are positive and the k lowest
    negative; in another bag the k highest are negative, where the classes exclude each other (`subtyping`)
    objective = c1 loss(bag) + c2 mean instance loss,    c1 = 0.7, c2 = 1 - c1
    instance loss: smooth top-1 SVM, for two classes log(1 + exp(1 - (s_y - s_other))), or cross-entropy

The SVM is that of Berrada, Zisserman, Kumar: Smooth Loss Functions for Deep Top-k Classification, ICLR 2018, with
alpha = tau = 1, as the authors of CLAM take it. https://arxiv.org/abs/1802.07595

The authors have a branch for each of C classes. A loss here asks for L outputs, and class 0 may have none (it is the
reference of cross-entropy). So there are L + 1 branches: one for each output, for the bags that the loss marks, and
before them one for the bags that no output is marked for. With cross-entropy these are the authors' C branches. CLAM-MB
gives the difference to the first branch's score; softmax over the classes is the same.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mil.bag import BagBatch, MILOutput, StoredTiles
from mil.blockwise import TileParts, attention_pool
from mil.model import Criterion, MILModel
from mil.models.embedding import tile_embedding
from mil.models.gated_attention import GatedAttention
from mil.segments import segment_ids, segment_ranks
from wsi.errors import UsageError

InstanceLoss = Literal["svm", "cross_entropy"]
MARGINS = {"svm": 1.0, "cross_entropy": 0.0}
"""Of two classes both losses are log(1 + exp(margin - (s_y - s_other)))."""


class ClamSB(MILModel):
    """One attention for all classes; which tiles it should tell apart is learned on the side.

    The tiles that are told apart are embedded a second time, so that bags of any length train in the memory of a
    block (`mil.blockwise`); with dropout their embeddings are those of another draw.

    Parameters
    ----------
    dim : int
        Length D of a feature.
    n_outputs : int
        Numbers that the loss asks for.
    hidden : int
        Length of a tile embedding.
    attention_dim : int
        Width of V and U.
    dropout : float
        Of the tile embeddings.
    k : int
        Tiles at either end that are told apart; never more than half of a bag, so that none is asked to be both. A bag
        of one tile has no instance loss.
    bag_weight : float
        c1; the instance loss has 1 - c1.
    instance_loss : "svm" or "cross_entropy"
    subtyping : bool
        Whether a tile of one class speaks against the others: for classes that exclude each other within a slide.
    """

    own_attention = False

    def __init__(
        self,
        dim: int,
        n_outputs: int,
        hidden: int = 128,
        attention_dim: int = 64,
        dropout: float = 0.25,
        k: int = 8,
        bag_weight: float = 0.7,
        instance_loss: InstanceLoss = "svm",
        subtyping: bool = False,
    ):
        super().__init__()
        if instance_loss not in MARGINS:
            raise UsageError(f"CLAM's instance_loss is {instance_loss!r}; it can be: {', '.join(MARGINS)}")
        if k < 1 or not 0 <= bag_weight <= 1:
            raise UsageError(f"CLAM's k is {k} and bag_weight {bag_weight}; expected k >= 1 and a weight from 0 to 1")
        branches = n_outputs + 1
        self.k, self.bag_weight, self.subtyping = k, bag_weight, subtyping
        self.margin = MARGINS[instance_loss]
        self.embed = tile_embedding(dim, hidden, dropout)
        self.attend = GatedAttention(hidden, attention_dim, branches if self.own_attention else 1)
        self.classify = nn.Linear(hidden, branches if self.own_attention else n_outputs)
        self.instances = nn.Linear(hidden, 2 * branches)

    def forward(self, batch: BagBatch) -> MILOutput:
        pooled = attention_pool(self, self._with_evidence, batch)
        return MILOutput(self._bag_logits(pooled.values), pooled.attention.mean(dim=1), pooled.outputs)

    def logits(self, batch: BagBatch) -> Tensor:
        """Without the classifier's answers to each tile."""
        return self._bag_logits(attention_pool(self, self._with_scores, batch).values)

    def objective(self, batch: BagBatch, criterion: Criterion) -> Tensor:
        """c1 of the bags' loss and c2 of their tiles'."""
        pooled = attention_pool(self, self._with_scores, batch)
        bags = criterion(self._bag_logits(pooled.values), batch.targets)
        tiles = self._instance_loss(batch, pooled.outputs, criterion.marks(batch.targets))
        return self.bag_weight * bags + (1 - self.bag_weight) * tiles

    def _bag_logits(self, values: Tensor) -> Tensor:
        """Means of the tiles by each attention (B, K, hidden) to (B, L)."""
        logits: Tensor = self.classify(values[:, 0])
        return logits

    def _with_scores(self, tiles: StoredTiles) -> TileParts:
        h = self.embed(tiles)  # (n, hidden)
        scores = self.attend(h)  # (n, K)
        return TileParts(h, scores, scores.detach())

    def _with_evidence(self, tiles: StoredTiles) -> TileParts:
        h, scores, _ = self._with_scores(tiles)
        heads = h[:, None].expand(-1, scores.shape[1], -1)  # (n, K, hidden)
        return TileParts(h, scores, self._bag_logits(heads))

    def _instance_loss(self, batch: BagBatch, scores: Tensor, marks: Tensor) -> Tensor:
        """Mean over the bags, in each over the branches that are asked, in each over the tiles told apart.

        Parameters
        ----------
        scores : Tensor (sum N, K)
            Before softmax, under which the lowest would tie at zero.
        marks : Tensor (B, L) bool
        """
        ids = segment_ids(batch.offsets)
        lengths = batch.offsets.diff()
        k = (lengths // 2).clamp(max=self.k)  # (B,)
        ranks = segment_ranks(scores, batch.offsets)  # (sum N, K)
        top, bottom = ranks < k[ids, None], ranks >= (lengths - k)[ids, None]
        rows = (top | bottom).any(dim=1).nonzero()[:, 0]  # (U,)
        bag, top, bottom = ids[rows], top[rows], bottom[rows]  # (U,), (U, K), (U, K)
        inside = torch.cat([~marks.any(dim=1, keepdim=True), marks], dim=1)  # (B, L + 1)
        asked = torch.full_like(k, inside.shape[1]) if self.subtyping else inside.sum(dim=1)  # (B,) branches
        here = inside[bag]  # (U, L + 1)
        shares = torch.where(here, (top | bottom) / 2, top * float(self.subtyping)) / (asked * k)[bag, None]
        pairs = self.instances(self.embed(batch.tiles_of(rows))).float()  # (U, 2 (L + 1))
        negative, positive = pairs.unflatten(1, (-1, 2)).unbind(2)  # (U, L + 1) each
        lead = torch.where(here & top, positive - negative, negative - positive)
        return (shares * functional.softplus(self.margin - lead)).sum() / len(batch)


class ClamMB(ClamSB):
    """An attention of its own for each branch, so that different tiles may speak for different classes.

    `attention` is the mean over the branches.
    """

    own_attention = True

    def _bag_logits(self, values: Tensor) -> Tensor:
        answers = (values * self.classify.weight).sum(dim=2) + self.classify.bias  # (B, L + 1)
        return answers[:, 1:] - answers[:, :1]
