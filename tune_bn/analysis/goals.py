"""Is more better? What the name of a score says about it, and what has to be asked."""

from __future__ import annotations

import re
from collections.abc import Iterable

from tune_bn.errors import ConfigError, ScoresError, listed

MAX, MIN = "max", "min"
GOALS = (MAX, MIN)


def names_in(text: str) -> frozenset[str]:
    """The words of a text, as a set to look them up in."""
    return frozenset(text.split())


_LOWER = names_in("""
    loss losses error errors err errs perplexity perplexities ppl entropy crossentropy xent ce bce nll nlls deviance
    rmse mse mae mape smape mase rmsle msle nrmse nmse rmsd medae msd mad epe ade fde mpjpe rse sse ssr residual
    residuals crps pinball hinge bpc bpb bpd bpt bits fid fvd kid fad lpips niqe brisque kl js jsd mmd wasserstein emd
    distance distances chamfer hausdorff hd hd95 assd asd divergence wer cer ter per der eer fer ser mer ber bler fpr
    fnr far frr fdr fpr95 ece mce ace brier regret risk cost costs penalty time times latency latencies seconds sec
    secs ms runtime duration memory flops energy power price aic bic misclassification misclassified mistakes failures
    failure neg negative minus inverse hamming violations violation crash crashes mcd ged edits levenshtein drop gap
    forgetting overfit overfitting sparsity variance std
    """)
# Names of arms have these too: a rank of LoRA, a wrong initialization.
_LOWER_IN_A_METRIC = _LOWER | names_in("""
    rank ranks degradation decrease decline deficit reduction shortfall lost incorrect wrong inv inverted lower smaller
    fewer
    """)
# ``1 - accuracy``, ``-acc``, ``1/acc``, ``acc ↓``, ``steps_to_90_acc``: the name of a score, turned round.
_TURNED = re.compile(
    r"^\W*[-−–]\s*[^\W\d]|(?<![\w-])(1|1\.0|100)\s*%?\s*[-−–]\s*[^\W\d]|^\W*1\s*/\s*[^\W\d]|[↓⬇▼▽🠗🡇]"
    r"|(steps?|epochs?|iter(ation)?s?|samples?|updates?|rounds?|tokens?|episodes?|queries|labels?)[\W_]*(to|until|till)"
    r"(?![^\W_])",
    re.IGNORECASE,
)
_LOWER_ENDINGS = ("loss", "error", "perplexity", "entropy", "mse", "mae", "latency", "regret", "divergence", "runtime")
# What a file is called is a weaker sign: `time.csv` need not hold times.
_SURELY_LOWER = names_in("loss losses error errors err errs ppl nll bpc bpb rmse mse mae fid wer cer regret")
_HIGHER = names_in("""
    score scores accuracy accuracies acc accs auc auroc auprc aucpr aupr roc ap map ap50 ap75 map50 f1 f2 fbeta fscore
    fmeasure precision recall sensitivity specificity tpr tnr top1 top5 iou miou jaccard dice dsc psnr ssim msssim bleu
    sacrebleu rouge rouge1 rouge2 rougel meteor chrf comet cider spice bertscore ndcg mrr hits hit r2 mcc kappa
    correlation pearson spearman kendall reward rewards return returns success successes wins win winrate elo points
    correct solved pass likelihood loglikelihood elbo evidence coverage fps throughput speedup gain hota mota idf1 em
    balanced purity nmi ari
    """)


def words_of(name: str) -> list[str]:
    """The words of a name, small: ``testLoss``, ``test_loss`` and ``test/loss`` are ``test`` and ``loss``."""
    # ``mIoU`` and ``mAP`` are one word, whatever their capitals.
    name = re.sub(r"R(\^2|²)", "R2", name)
    name = re.sub(r"(?<![^\W_])(mIoU|mAP|wAP|AUROC|R2)(?![a-z])", lambda found: found[0].upper(), name)
    spaced = re.sub(r"(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return [word.casefold() for word in re.findall(r"[^\W_]+", spaced)]


def _bare(words: Iterable[str]) -> list[str]:
    """The words without a number at their end, such as ``fid50k``."""
    return [re.sub(r"\d+k?$", "", word) for word in words]


def _sounds_lower(name: str, among: frozenset[str] = _LOWER_IN_A_METRIC) -> bool:
    words = words_of(name)
    bare = _bare(words)
    # "images per second" is no phoneme error rate.
    found = {*words, *bare} - ({"per"} if "per" in words[:-1] else set())
    if among is _LOWER_IN_A_METRIC and _TURNED.search(name):
        return True
    return bool(found & among) or any(word.endswith(_LOWER_ENDINGS) for word in words)


def goal_of(metric: str, *, source: str = "", others: Iterable[str] = (), goal: str | None = None) -> str:
    """``"max"`` or ``"min"``: as said, or ``max`` where the name of the score leaves no doubt.

    A column called ``score`` counts as higher is better, unless the file or an arm (a column of a wide table) is
    called after a loss.

    Args:
        metric: the column of the scores.
        source: name of the file.
        others: names of columns that hold scores, in a table without a column of that name.
        goal: what was said; None: nothing.

    Raises:
        ConfigError: ``goal`` is neither.
        ScoresError: it was not said, and the name does not say it. The message asks.
    """
    if goal is not None:
        if goal not in GOALS:
            raise ConfigError("goal", goal, "max, where a higher score is better, or min, where a lower one is")
        return goal
    words = words_of(metric)
    accepted = "accepted: --goal min where a lower score is better, --goal max where a higher one is"
    if _sounds_lower(metric):
        raise ScoresError(
            f"{source}: column {listed([metric])}: is a lower score better? Its name sounds like it; {accepted}"
        )
    if words in (["score"], ["scores"]):
        doubtful = [name for name in (source, *others) if _sounds_lower(name, _SURELY_LOWER)]
        if doubtful:
            raise ScoresError(
                f"{source}: column {listed([metric])}: is a lower score better? {listed(doubtful)} sounds like it; "
                f"{accepted}"
            )
        return MAX
    if _HIGHER & {*words, *_bare(words)}:
        return MAX
    raise ScoresError(
        f"{source}: column {listed([metric])}: is a higher score better, or a lower one? Its name does not say; "
        f"{accepted}"
    )


def differing(names: Iterable[str]) -> list[str]:
    """Columns that are called after different scores, such as ``base_acc`` and ``base_time``; none where all agree."""
    scores = {name: (_LOWER | _HIGHER) & {*words_of(name), *_bare(words_of(name))} for name in names}
    return list(scores) if len({frozenset(found) for found in scores.values()}) > 1 else []
