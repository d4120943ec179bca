"""gwfast: a fast gateway that speaks the Kubernetes Gateway API.

Data flows one way: text -> config -> graph -> plan -> table -> engine. A folder is one stage of readable
Python; an underscore file is one compiled stage of the hot path.
"""
__version__ = "0.1.0"
