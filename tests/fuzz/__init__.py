"""Foreign input, made up: each module has ``run(cases, seed)``, which fails where a parser breaks its promises."""
