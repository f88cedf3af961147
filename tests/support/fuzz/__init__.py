"""Foreign input, mutated or made up: each module's ``run(cases, seed)`` fails where a parser breaks its promises."""
