"""The colours of all figures."""

# Okabe & Ito's palette without yellow, which is too light for lines: told apart in every common colour blindness.
PALETTE = {
    "blue": "#0072B2",
    "orange": "#D55E00",
    "green": "#009E73",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "amber": "#E69F00",
    "grey": "#5F6368",
}
