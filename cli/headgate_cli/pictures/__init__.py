"""Pictures of a rollout, drawn from its view: the report as a page and as Markdown. None of them calls AWS."""
