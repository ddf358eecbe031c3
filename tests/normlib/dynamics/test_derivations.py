"""The propositions of the chapters by symbols: what a chapter checks by numbers holds for all numbers.

Each test rebuilds one formula from its definition with sympy and leaves nothing over.
"""

import pytest
import sympy as sp

A, ETA, RHO, SIGMA, LAM, MU, T = sp.symbols("A eta rho sigma lambda mu t", positive=True)
PHI, START = sp.symbols("phi phi_0", positive=True)


def is_zero(expression) -> bool:
    """Zero after simplification, and at a point where a wrong simplification would show."""
    point = {symbol: sp.Rational(k + 3, 7) for k, symbol in enumerate(sorted(expression.free_symbols, key=str))}
    return sp.simplify(expression) == 0 and abs(sp.N(expression.subs(point))) < 1e-12


@pytest.mark.parametrize("dim", [2, 3, 4])
def test_jacobian_of_normalisation_is_the_projection_over_the_norm(dim):
    z = sp.Matrix(sp.symbols(f"z1:{dim + 1}", real=True))
    norm = sp.sqrt(sum(entry**2 for entry in z))
    u = z / norm
    by_formula = (sp.eye(dim) - u * u.T) / norm
    assert all(is_zero(entry) for entry in u.jacobian(z) - by_formula)


def pair(dim=3):
    z = sp.Matrix(sp.symbols(f"z1:{dim + 1}", real=True))
    target = sp.Matrix([1] + [0] * (dim - 1))
    norm = sp.sqrt(sum(entry**2 for entry in z))
    return z, norm, -(z.dot(target)) / norm


def test_cosine_gradient_is_orthogonal_and_of_size_sine_over_norm():
    z, norm, loss = pair()
    gradient = sp.Matrix([loss.diff(entry) for entry in z])
    assert is_zero(z.dot(gradient))
    assert is_zero(gradient.dot(gradient) - (1 - loss**2) / norm**2)


def test_orthogonal_step_lengthens_by_pythagoras():
    z, norm, loss = pair()
    gradient = sp.Matrix([loss.diff(entry) for entry in z])
    after = z - ETA * gradient
    assert is_zero(after.dot(after) - norm**2 - ETA**2 * gradient.dot(gradient))


@pytest.mark.parametrize("decoupled", [False, True])
def test_contrastive_gradient_with_respect_to_directions(decoupled):
    """Four views, similarities as free symbols: the slope of the mean loss is both weights minus the pull."""
    n, tau = 4, sp.Symbol("tau", positive=True)
    positive = [2, 3, 0, 1]
    s = sp.Matrix(n, n, lambda i, j: sp.Symbol(f"s{min(i, j)}{max(i, j)}", real=True))
    candidates = [[b for b in range(n) if b != a and not (decoupled and b == positive[a])] for a in range(n)]
    totals = [sum(sp.exp(s[a, b] / tau) for b in candidates[a]) for a in range(n)]
    loss = sum(sp.log(totals[a]) - s[a, positive[a]] / tau for a in range(n)) / n
    w = sp.Matrix(n, n, lambda a, b: sp.exp(s[a, b] / tau) / totals[a] if b in candidates[a] else 0)
    for b in range(1, n):
        by_formula = (w[0, b] + w[b, 0] - 2 * (b == positive[0])) / (n * tau)
        assert is_zero(loss.diff(s[0, b]) - by_formula)


def test_cosine_after_one_step_on_both_points():
    turn = sp.atan(A * sp.sin(PHI))
    change = sp.expand_trig(sp.cos(PHI - 2 * turn)) - sp.cos(PHI)
    by_formula = 2 * A * sp.sin(PHI) ** 2 * (1 - A * sp.cos(PHI)) / (1 + A**2 * sp.sin(PHI) ** 2)
    assert is_zero(sp.simplify(change - by_formula))


def test_a_step_ratio_of_one_over_one_plus_cosine_solves_a_pair():
    """The turn of both is then the angle itself, since tan(φ/2) = sin φ / (1 + cos φ)."""
    half = T
    assert is_zero(sp.tan(half) - sp.expand_trig(sp.sin(2 * half)) / (1 + sp.expand_trig(sp.cos(2 * half))))


def test_cosine_falls_exactly_when_the_ratio_times_the_cosine_exceeds_one():
    c, s = sp.symbols("c s", real=True)
    change = 2 * A * s**2 * (1 - A * c) / (1 + A**2 * s**2)
    assert sp.solve(change, c) == [1 / A]
    assert change.subs({A: 2, c: sp.Rational(3, 5), s: sp.Rational(4, 5)}) < 0


def test_safe_bound_follows_from_two_inequalities():
    """sin δ ≤ A sin φ and 1 - cos δ ≤ (A sin φ)² / 2, put into cos(φ - δ) - cos φ."""
    delta = sp.Symbol("delta", positive=True)
    change = sp.cos(PHI - delta) - sp.cos(PHI)
    parts = sp.sin(PHI) * sp.sin(delta) - sp.cos(PHI) * (1 - sp.cos(delta))
    assert is_zero(sp.expand_trig(change) - parts)
    pushed = A * sp.sin(PHI)
    bound = sp.sin(PHI) * pushed + sp.Abs(sp.cos(PHI)) * pushed**2 / 2
    assert is_zero(bound - A * sp.sin(PHI) ** 2 * (1 + A * sp.Abs(sp.cos(PHI)) / 2))


def test_half_tangent_falls_exponentially():
    angle = 2 * sp.atan(sp.tan(START / 2) * sp.exp(-A * T))
    slope = sp.diff(angle, T) + A * sp.sin(angle)
    assert is_zero(sp.simplify(sp.expand_trig(slope)))
    assert abs(sp.N((angle.subs(T, 0) - START).subs(START, 2))) < 1e-12


def test_time_to_align_inverts_the_half_tangent_law():
    target = sp.Symbol("phi_1", positive=True)
    time = sp.log(sp.tan(START / 2) / sp.tan(target / 2)) / A
    assert is_zero(sp.tan(START / 2) * sp.exp(-A * time) - sp.tan(target / 2))


def test_aligning_a_pair_adds_at_most_the_step_size_to_its_squared_norm():
    growth = (ETA * sp.sin(PHI) / RHO) ** 2  # of the squared norm, in one step
    turn = -2 * ETA * sp.sin(PHI) / RHO**2
    slope = sp.simplify(growth / turn)
    assert is_zero(slope + ETA * sp.sin(PHI) / 2)
    gained = sp.integrate(slope, (PHI, START, 0))
    assert is_zero(gained - ETA / 2 * (1 - sp.cos(START)))
    assert gained.subs(START, sp.pi) == ETA


def test_noise_lengthens_with_the_quarter_power_and_momentum_by_its_square():
    q = sp.Function("q")  # squared norm
    strength = ETA**2 * SIGMA**2 / (1 - MU) ** 2
    law = sp.sqrt(RHO**4 + 2 * strength * T)
    assert is_zero(sp.diff(law, T) - strength / law)
    assert sp.checkodesol(sp.Eq(q(T).diff(T), strength / q(T)), sp.Eq(q(T), law))[0]


@pytest.mark.parametrize("power", [0, 1, sp.Rational(3, 2)])
def test_equilibrium_balances_growth_and_decay(power):
    from normlib.dynamics import equilibrium_norm

    norm = (ETA * SIGMA**2 / (2 * LAM * (1 - MU))) ** (sp.Integer(1) / (4 - 2 * power))
    growth = (ETA * SIGMA * norm ** (power - 1) / (1 - MU)) ** 2
    decay = 2 * ETA * LAM / (1 - MU) * norm**2
    assert is_zero(sp.simplify(growth / decay) - 1)
    numbers = {ETA: 0.3, SIGMA: 0.7, LAM: 0.02, MU: 0.6}
    given = equilibrium_norm("sgd", lr=0.3, noise=0.7, weight_decay=0.02, momentum=0.6, power=float(power))
    assert given == pytest.approx(float(norm.subs(numbers)), rel=1e-12)


def test_without_momentum_the_angle_turned_at_equilibrium_depends_on_step_size_and_decay_alone():
    norm = (ETA * SIGMA**2 / (2 * LAM)) ** sp.Rational(1, 4)
    assert is_zero(ETA * SIGMA / norm**2 - sp.sqrt(2 * ETA * LAM))


def test_adamw_balances_at_a_norm_that_knows_no_gradient():
    from normlib.dynamics import equilibrium_norm

    dim = sp.Symbol("D", positive=True)
    norm = sp.sqrt(ETA * dim / (2 * LAM))
    assert is_zero(ETA**2 * dim - 2 * ETA * LAM * norm**2)
    assert equilibrium_norm("adamw", lr=0.1, weight_decay=0.2, dim=8) == pytest.approx(2**0.5)


def test_full_grad_scale_leaves_growth_and_decay_in_one_ratio():
    """p = 2: both are proportional to the squared norm, so one of them wins at every norm."""
    growth, decay = (ETA * SIGMA * RHO) ** 2, 2 * ETA * LAM * RHO**2
    assert is_zero(growth / decay - ETA * SIGMA**2 / (2 * LAM))


def test_cut_network_takes_the_steps_of_a_larger_learning_rate():
    """Two layers of one weight each, one bias-free and one not; then one step of SGD with decay."""
    v, w, x, c = sp.symbols("v w x c", positive=True)
    with_bias = sp.Matrix([v * w * x, v * (x + w)])  # w stands beside x: a cut does more than shorten
    without = sp.Matrix([v * w * x, v * w * (1 + x)])
    for output, cancels in ((with_bias, False), (without, True)):
        direction = output / sp.sqrt(output.dot(output))
        cut = direction.subs({v: v / c, w: w / c}, simultaneous=True)
        assert all(sp.simplify(entry) == 0 for entry in cut - direction) == cancels
    # A loss with L(θ/c) = L(θ) has the gradient c ∇L(θ) at θ/c: one step from there is a step of c²η from θ, then cut.
    slope = sp.Symbol("g", real=True)
    step_of_cut = v / c - ETA * (c * slope + LAM * v / c)
    assert is_zero(step_of_cut - (v - c**2 * ETA * (slope + LAM / c**2 * v)) / c)


def test_radial_effect_of_a_class_mate_in_the_plane():
    """What the pull of b towards m does to the length of x: positive where x lies nearer to m than b does."""
    x, b = sp.symbols("theta_x theta_b", real=True)
    effect = sp.cos(x) - sp.cos(b) * sp.cos(x - b)
    assert is_zero(sp.expand_trig(effect + sp.sin(b) * sp.sin(x - b)))
    both = effect + effect.subs({x: b, b: x}, simultaneous=True)
    assert is_zero(sp.expand_trig(both - sp.sin(x - b) * (sp.sin(x) - sp.sin(b))))
