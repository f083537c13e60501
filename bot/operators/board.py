"""A campaign as a picture for the terminal: where its people stand, and what keeps it."""

from collections.abc import Iterator, Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from bot.campaigns.gate import CampaignState
from bot.campaigns.records import CampaignRecord, Counts, Waits

__all__ = ["board"]


def board(
    campaign: CampaignRecord,
    counts: Counts,
    *,
    held: Mapping[str, int],
    waits: Waits | None = None,
    n_unattended: int = 0,
) -> Group:
    """One campaign, a line for each place where its people stand; the lines add up to the last.

    Remarks stand below, as wide as the terminal.

    `held` are those of the planned whom something keeps from being rung now; `waits` are of the
    last 30 days; `n_unattended` have been due for a minute, and no dialer seems to be there.
    """
    state = campaign.state.value + (f" ({campaign.why})" if campaign.why else "")
    title = f"{campaign.plan.name}: {state}"
    table = Table(title=title, title_justify="left", min_width=len(title) + 1)
    table.add_column("")
    table.add_column("people", justify="right")
    for name, n in (
        ("planned", counts.planned),
        ("dialling", counts.dialling),
        ("ringing", counts.ringing),
        ("talking", counts.talking),
    ):
        table.add_row(name, str(n))
    for outcome, n in sorted(counts.done.items()):
        table.add_row(f"done: {outcome}", str(n))
    for reason, n in sorted(counts.refused.items()):
        table.add_row(f"not rung: {reason}", str(n))
    table.add_section()
    table.add_row("all", str(counts.n_contacts))
    remarks = [*_on_list(campaign, counts), *_unattended(n_unattended), *_remarks(held, waits)]
    return Group(table, *(Text(remark) for remark in remarks))


def _on_list(campaign: CampaignRecord, counts: Counts) -> Iterator[str]:
    if not counts.n_contacts and campaign.state is not CampaignState.CANCELLED:
        yield (
            "there is nobody to ring yet: add people with"
            f" `python -m bot.campaign import {campaign.plan.name} FILE`"
        )


def _unattended(n: int) -> Iterator[str]:
    if n:
        yield (
            f"due for more than a minute: {n}, and no dialer has done anything meanwhile:"
            " is `python -m bot.dialer` running, on this database?"
        )


def _remarks(held: Mapping[str, int], waits: Waits | None) -> Iterator[str]:
    if held:
        reasons = ", ".join(f"{n} {reason}" for reason, n in held.items())
        yield f"planned, and kept from it for now: {reasons}"
    if waits is not None and waits.n_answered:
        n_prompt = waits.n_answered - waits.n_abandoned
        yield f"{n_prompt} of {waits.n_answered} answers heard a voice within 2 s"
