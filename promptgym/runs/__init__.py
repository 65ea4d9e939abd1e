"""What a run leaves behind: events, the run folder and the live display."""

from promptgym.runs.events import EventLog, EventSink, ListSink, NullSink, Tee, plain, read_events

__all__ = ["EventLog", "EventSink", "ListSink", "NullSink", "Tee", "plain", "read_events"]
