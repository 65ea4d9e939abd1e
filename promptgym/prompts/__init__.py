"""Values: prompts, examples and the template that joins them."""

from promptgym.prompts.prompt import Example, Prompt, PromptsLike, content_key, prompts_of
from promptgym.prompts.template import PLACEHOLDERS, Template

__all__ = [
    "PLACEHOLDERS",
    "Example",
    "Prompt",
    "PromptsLike",
    "Template",
    "content_key",
    "prompts_of",
]
