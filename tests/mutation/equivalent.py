"""The faults that survive because they change no result, each with the reason."""

EQUIVALENT = {
    "schedule: the cosine begins again": (
        "the last quotient has made the rate 0.0 exactly: 1 + cos(pi) is 0.0 in floats"
    ),
    "measuring: own models are not heeded where one is global": (
        "clients that have a model of their own beside a global one are measured in the "
        "branch before; here at most one of the two is there"
    ),
}
