"""Questions about AWS that no documentation answers, asked of a real account: ``make probe-aws PROFILE=...``."""
