"""A campaign as a picture for the terminal: where its people stand, and what keeps it."""

from rich.table import Table

from bot.campaigns.records import CampaignRecord, Counts

__all__ = ["board"]


def board(campaign: CampaignRecord, counts: Counts) -> Table:
    """One campaign, a line for each place where its people stand; the lines add up to the last."""
    state = campaign.state.value + (f" ({campaign.why})" if campaign.why else "")
    table = Table(title=f"{campaign.plan.name}: {state}", title_justify="left")
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
    return table
