"""The course kit: exercises that check themselves, the tutorials' figures, sliders.

check(name, answer)           points of an answer, with a diagnosis of what is wrong with it
hint(name)                    a hint to an exercise, a clearer one with each call, three in all
my_functions(folder)          a student's functions from all notebooks, in one file
check_network(network, my)    which of them is wrong in a network made of them
figures.NAME(...)             a figure of the tutorials
explore(figures.NAME, ...)    the same with sliders
predict(name, guess)          a place to type what one expects, before a cell is run
predictions()                 all that was typed, once more
"""

from agl_ref.lazy import attach

# modules with the exercises and with the figures of each notebook
NOTEBOOKS = ("one_neuron", "why_a_surrogate", "bptt_by_hand", "membrane_potential", "adaptive_width", "conv_snn",
             "check_your_implementation", "debug_a_kernel", "when_time_matters", "your_own_snn")  # fmt: skip

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "grading.check_answer": ("check",),
        "guesses": ("predict", "predictions"),
        "hints": ("hint",),
        "sliders": ("explore",),
        "own_network": ("check_network", "my_functions"),
    },
    {"exercises": "exercises", "figures": "figures"},
)
