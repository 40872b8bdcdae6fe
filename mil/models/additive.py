"""Additive MIL: the logits of a bag are the sum of what its tiles contribute, so that a heatmap of them is exact.

Javed, Juyal, Padigela, Taylor-Weiner, Yu, Prakash: Additive MIL: Intrinsically Interpretable Multiple Instance
Learning for Pathology, NeurIPS 2022, section 3. https://arxiv.org/abs/2206.01794

    logit = b + sum_i psi(a_i h_i),    a_i = softmax_i( w^T ( tanh(V h_i) * sigmoid(U h_i) ) )
    psi(x) = W_2 relu(W_1 x), so that psi(a_i h_i) = a_i psi(h_i)

The authors' psi has biases. Then every tile adds psi(0) whatever it shows, and over the tiles of a whole slide this
swamps the rest: a slide scanned with more tissue gets other logits. Here psi has none, and the bag one bias.
"""

from torch import Tensor, nn

from mil.bag import BagBatch, MILOutput, StoredTiles
from mil.blockwise import TileParts, attention_pool
from mil.model import MILModel
from mil.models.embedding import tile_embedding
from mil.models.gated_attention import GatedAttention


class AdditiveMIL(MILModel):
    """What each tile adds to each logit is `attention * tile_logits`: these sum to the logits of the bag.

    Bags of any length train in the memory of a block (`mil.blockwise`).

    Parameters
    ----------
    dim : int
        Length D of a feature.
    n_outputs : int
        Numbers that the loss asks for.
    hidden : int
        Length of a tile embedding, and width of psi.
    attention_dim : int
        Width of V and U.
    dropout : float
        Of the tile embeddings.
    """

    def __init__(self, dim: int, n_outputs: int, hidden: int = 128, attention_dim: int = 64, dropout: float = 0.25):
        super().__init__()
        self.embed = tile_embedding(dim, hidden, dropout)
        self.attend = GatedAttention(hidden, attention_dim)
        self.inner = nn.Linear(hidden, hidden, bias=False)
        self.outer = nn.Linear(hidden, n_outputs)  # its bias is the bag's

    def forward(self, batch: BagBatch) -> MILOutput:
        pooled = attention_pool(self, self._with_evidence, batch)
        return MILOutput(pooled.values[:, 0], pooled.attention[:, 0], pooled.outputs)

    def logits(self, batch: BagBatch) -> Tensor:
        """Without keeping the contributions."""
        return attention_pool(self, self._parts, batch).values[:, 0]

    def _parts(self, tiles: StoredTiles) -> TileParts:
        h = self.embed(tiles)  # (n, hidden)
        answers = self.outer(self.inner(h).relu())  # (n, L): the weights of a bag sum to 1, and so it gets b once
        return TileParts(answers, self.attend(h), h.new_empty(len(h), 0))

    def _with_evidence(self, tiles: StoredTiles) -> TileParts:
        answers, scores, _ = self._parts(tiles)
        return TileParts(answers, scores, answers)
