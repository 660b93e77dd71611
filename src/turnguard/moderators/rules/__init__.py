"""The sandbox's judge: small transparent rules, one readable YAML file per category beside this module.

A rule is a phrase that is unsafe wherever it stands, or an act near an object ("build" ... "bomb") that becomes unsafe
when something asks for it ("how do I", "steps to"). Texts on both sides of an exchange are judged together: what
stands in the picture with what the prompt says about it, and a response with the prompt that it answers. None of this
is the Nemotron model, and none of it was written from, or tuned on, a benchmark.
"""

from turnguard.moderators.rules.judge import Hit, RuleVerdict, judge

__all__ = ["Hit", "RuleVerdict", "judge"]
