"""What one group decided about a dataset, and another group leaves alone meanwhile."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from planner.model import Loser, Member
from planner.paths import dataset_of, is_below


@dataclass(frozen=True, slots=True)
class Claim:
    """A dataset that a group is putting right: it, or its name while it is set aside, is that group's alone."""

    group_id: str
    group: str
    system_id: str
    dataset: str
    below: bool  # with all that lies below it
    begun: bool  # something has been set aside already

    def covers(self, system_id: str, dataset: str) -> bool:
        """Whether a dataset is meant."""
        return self.system_id == system_id and (
            dataset == self.dataset or (self.below and is_below(dataset, self.dataset))
        )


def claim_on(
    members: Mapping[str, Member], path: str, winner: str | None, losers: Iterable[Loser], claims: Sequence[Claim]
) -> Claim | None:
    """The first claim on what a decision reads or moves, with all that lies below."""
    places = [(loser.system_id, loser.dataset) for loser in losers]
    won = members.get(winner or "")
    if won is not None:
        places.append((won.system_id, dataset_of(won, path)))
    for claim in claims:
        moves = (system == claim.system_id and is_below(claim.dataset, dataset) for system, dataset in places)
        if any(moves) or any(claim.covers(*place) for place in places):
            return claim
    return None


def is_begun(members: Mapping[str, Member], loser: Loser) -> bool:
    """Whether a loser has been set aside."""
    member = members.get(loser.system_id)
    return member is not None and (loser.aside in member.replicas or loser.aside in member.absent)
