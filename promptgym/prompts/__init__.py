"""Values: prompts, examples and the template that joins them."""

from promptgym.prompts.prompt import Example, Prompt, content_key
from promptgym.prompts.template import PLACEHOLDERS, Template

__all__ = ["PLACEHOLDERS", "Example", "Prompt", "Template", "content_key"]
