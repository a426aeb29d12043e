"""Planning: what the best agent could do, to set beside what agents do."""

from metagym.planning.ceilings import Ceiling, ceiling

__all__ = ["Ceiling", "ceiling"]
