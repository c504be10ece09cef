"""The command line: one thin module per verb, wiring the stages together. `main.VERBS` lists them."""
