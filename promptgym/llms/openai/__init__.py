"""Models behind OpenAI-compatible HTTP servers: `load_model("openai:http://host:port/v1#model")`.

One file a concern: `options` (what a spec and its options say), `keys` (secrets), `loop` (the
background event loop), `limiter` and `retry` (when a request may go), `client` (HTTP), `wire`
(bodies and answers), `logprobs` and `parser` (labels), `probe` (what a server can do), `prices`
(money), `model` (the contract). Nothing here is imported before such a model is loaded.
"""
