"""The oracle's report: verdict, what was checked, the first divergence."""

from dataclasses import dataclass, field


@dataclass
class Report:
    """What `compare` found.

    Attributes
    ----------
    verdict : {"PASS", "FAIL", "AMBIGUOUS"}
    verdicts : {array name: verdict}
    first_divergence : dict or None
    checked, not_checked : list of array names
    """

    id: str
    verdict: str
    verdicts: dict
    checked: list
    not_checked: list
    dtype: str
    first_divergence: dict | None = None
    details: dict = field(default_factory=dict)

    def __str__(self):
        lines = [f"{self.verdict}  {self.id} ({self.dtype})"]
        lines += [f"  {name}: {verdict}" for name, verdict in self.verdicts.items() if verdict != "PASS"]
        lines.append(f"checked {len(self.checked)}, not checked {len(self.not_checked)}")
        return "\n".join(lines)
