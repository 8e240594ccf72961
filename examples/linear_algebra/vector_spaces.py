"""Vector spaces in JAX and in PyTorch: bases, independence, angles, orthogonality, maps.

Run it as a program (`python examples/linear_algebra/vector_spaces.py --out figures`), or cell by
cell in an editor that knows `# %%`.
"""

# %% Set-up
import jax
import jax.numpy as jnp
import numpy as np
import torch
from sklearn.datasets import load_digits, load_sample_image

from compare.share import to_jax, to_torch
from compare.study.figures import picture
from compare.study.lessons import both, lesson
from compare.study.scripts import script
from jaxnn.layers.linear import Linear as JaxLinear
from jaxnn.linalg import bases as jax_bases
from jaxnn.linalg import orthogonal as jax_orthogonal
from torchref.layers.linear import Linear
from torchref.linalg import bases, orthogonal

script(__name__)
# Handwritten digits, (1797, 64) in 0..1.
PIXELS, LABELS = (np.asarray(part) for part in load_digits(return_X_y=True))
PIXELS = PIXELS / 16


# %% [basis] Basis and Dimension
# A basis of a space: vectors that reach all of it, none of them spare. Their number, the dimension,
# is the same for every basis; for the columns of a matrix it is the rank.
with lesson("basis") as same:
    a = same.rng.integers(-3, 4, (5, 3)).astype(float)
    ja, ta = both(np.column_stack([a, a[:, 0] + a[:, 1], 2 * a[:, 2]]))  # 5 columns, 3 independent
    forms = jax_bases.reduced_row_echelon(ja), bases.reduced_row_echelon(ta)
    same("echelon form and pivots", *forms)
    print(f"pivots in the columns {np.flatnonzero(forms[0][1]).tolist()}:\n{forms[0][0].round(3)}")
    same("rank", jax_bases.rank(ja), bases.rank(ta))
    same("as by singular values", jnp.linalg.matrix_rank(ja), torch.linalg.matrix_rank(ta))
    same.holds("it is 3", int(bases.rank(ta)) == 3)
    same("row rank = column rank", jax_bases.rank(ja.T), bases.rank(ta))
    kernel = jax_bases.null_space(ja), bases.null_space(ta)
    same("null space", *kernel)
    same.holds("A n = 0", float(abs(ja @ kernel[0]).max()) < 1e-12)
    same.holds("rank + nullity = columns", 3 + int((kernel[0] != 0).any(0).sum()) == 5)

    # Two bases of one space: the pivot columns, and orthonormal ones by QR. They differ; the
    # projection onto what they span does not.
    by_rows = jax_bases.column_space(ja)[:, :3], bases.column_space(ta)[:, :3]
    same("pivot columns", *by_rows)
    by_qr = jax_orthogonal.householder_qr(ja[:, :3])[0], orthogonal.householder_qr(ta[:, :3])[0]
    same("by QR", *by_qr)
    same("span the same", by_qr[0] @ by_qr[0].T, orthogonal.projector(by_rows[1]))

    # Real features: 64 pixels of 1797 digits. Three pixels are always blank, so the rank is 61.
    jx, tx = both(PIXELS)
    ranks = jax.jit(jax_bases.rank)(jx), bases.rank(tx)
    same("rank of the digits", *ranks)
    same.holds("that of the pixels in use", int(ranks[0]) == (PIXELS != 0).any(0).sum() == 61)

    # A layer's outputs lie in its column space. Through 5 units in the middle, 20 outputs keep
    # dimension 5; a relu of them leaves no linear space of 5 dimensions.
    w, v = same.rng.standard_normal((64, 5)), same.rng.standard_normal((5, 20))
    narrow, wide = Linear(64, 5, bias=False), Linear(5, 20, bias=False)
    with torch.no_grad():
        narrow.weight.copy_(to_torch(w.T))
        wide.weight.copy_(to_torch(v.T))
    jax_narrow = JaxLinear(64, 5, bias=False).bind({"params": {"kernel": to_jax(w)}})
    jax_wide = JaxLinear(5, 20, bias=False).bind({"params": {"kernel": to_jax(v)}})
    spectra = {
        "linear": (jax_wide(jax_narrow(jx)), wide(narrow(tx)).detach()),
        "relu of its outputs": (
            jax.nn.relu(jax_wide(jax_narrow(jx))),
            wide(narrow(tx)).detach().relu(),
        ),
    }
    for name, (ours, theirs) in spectra.items():
        same(name, ours, theirs)
        same(f"rank, {name}", jnp.linalg.matrix_rank(ours), torch.linalg.matrix_rank(theirs))
    same.holds("5 dimensions", int(jnp.linalg.matrix_rank(spectra["linear"][0])) == 5)
    bent = int(jnp.linalg.matrix_rank(spectra["relu of its outputs"][0]))
    print(f"dimension of 20 outputs behind 5 units: 5, after a relu {bent}")
    same.holds("more after a relu", bent > 5)
    if (axis := same.axes()) is not None:
        for name, (ours, theirs) in spectra.items():
            sizes = jnp.linalg.svd(ours, compute_uv=False), torch.linalg.svdvals(theirs)
            axis.semilogy(range(1, 21), sizes[0], "o", label=f"{name}, JAX", mfc="none")
            axis.semilogy(range(1, 21), sizes[1], "x", label=f"{name}, PyTorch")
        axis.set(xlabel="number", ylabel="singular value", title="20 outputs behind 5 units")
        axis.set_xticks(range(1, 21))
        axis.legend(fontsize=8)

# %% [independence] Linear Independence and Spanning
# Independent: only 0 = sum_i c_i v_i with all c_i = 0. Four tests: the rank, det of the Gram
# matrix, the smallest singular value, and what is left of each vector after projection.
with lesson("independence") as same:
    for name, spare in (("independent", 0.0), ("dependent", 1.0)):
        a = same.rng.standard_normal((6, 4))
        a[:, 3] = spare * (a[:, 0] - 2 * a[:, 1]) + (1 - spare) * a[:, 3]
        ja, ta = both(a)
        dependent = name == "dependent"
        same(f"rank, {name}", jax_bases.rank(ja), bases.rank(ta))
        gram = float(jnp.linalg.det(ja.T @ ja)), float(torch.linalg.det(ta.T @ ta))
        least = float(jnp.linalg.svd(ja, compute_uv=False)[-1]), float(torch.linalg.svdvals(ta)[-1])
        q = jax_orthogonal.projector(ja[:, :3]), orthogonal.projector(ta[:, :3])
        left = ja[:, 3] - q[0] @ ja[:, 3], ta[:, 3] - q[1] @ ta[:, 3]
        same.holds("det of Gram", [abs(g) < 1e-10 for g in gram] == [dependent] * 2)
        same.holds("smallest singular value", [s < 1e-12 for s in least] == [dependent] * 2)
        sizes = [float(abs(r).max()) < 1e-12 for r in left]
        same.holds("nothing is left", sizes == [dependent] * 2)
        same.holds("rank", (int(bases.rank(ta)) == 3) == dependent)

    # The dummy variable trap: one column for each of ten classes, and a bias. The ten sum to it.
    jd, td = both(np.column_stack([np.eye(10)[LABELS[:200]], np.ones(200)]))
    same("one-hot and bias", jax_bases.null_space(jd), bases.null_space(td))
    same.holds("11 columns, rank 10", int(jnp.linalg.matrix_rank(jd)) == 10)

    # Numbers know no zero. v3 = v1 + v2 + delta u is independent for every delta > 0; whether it is
    # seen depends on the precision: below eps |A| the smallest singular value is rounding.
    a, u = same.rng.standard_normal((20, 2)), same.rng.standard_normal(20)
    deltas, seen = 10.0 ** -np.arange(0, 20, 2), {}
    for name, precision in (("float64", np.float64), ("float32", np.float32)):
        for delta in deltas:
            x = np.column_stack([a, a.sum(1) + delta * u]).astype(precision)
            ours, theirs = jnp.asarray(x.copy()), torch.from_numpy(x.copy())
            seen.setdefault(f"{name}, JAX", []).append(jnp.linalg.svd(ours, compute_uv=False)[-1])
            seen.setdefault(f"{name}, PyTorch", []).append(torch.linalg.svdvals(theirs)[-1])
            counted = jnp.linalg.matrix_rank(ours), torch.linalg.matrix_rank(theirs)
            # 20 eps |A| is what both libraries call zero.
            far = delta > 1e3 * np.finfo(precision).eps
            near = delta < 1e-2 * np.finfo(precision).eps
            if far or near:
                same(f"rank, {name}, delta {delta:.0e}", *counted)
                same.holds("2 where it is rounding", int(counted[0]) == (3 if far else 2))
    same("what float64 measures of 0.01", seen["float64, JAX"][1], seen["float64, PyTorch"][1])

    # The span of features: all zeros nearly lie in the span of 10 directions (the first singular
    # vectors), the ones in that of 10 others. A digit that none has seen belongs to the span that
    # leaves least of it.
    jt, tt = both(PIXELS[1000:])
    jleft, tleft = [], []
    for k in range(10):
        jb, tb = both(PIXELS[:1000][LABELS[:1000] == k].T)
        jq = jnp.linalg.svd(jb, full_matrices=False)[0][:, :10]
        tq = torch.linalg.svd(tb, full_matrices=False)[0][:, :10]
        jleft.append(jnp.linalg.norm(jt - jt @ jq @ jq.T, axis=1))
        tleft.append(torch.linalg.norm(tt - tt @ tq @ tq.T, dim=1))
    left = jnp.stack(jleft, 1), torch.stack(tleft, 1)
    same("distances to ten spans", *left)
    right = [float(np.mean(np.asarray(each).argmin(1) == LABELS[1000:])) for each in left]
    print(f"nearest span: {right[0]:.3f} and {right[1]:.3f} of {len(tt)} digits")
    same.holds("95 of 100 are right", min(right) > 0.95)
    if (axis := same.axes()) is not None:
        for (name, values), mark in zip(seen.items(), ("o-", "x--", "s-", "+--"), strict=True):
            axis.loglog(deltas, np.array([float(value) for value in values]), mark, label=name)
        axis.set(xlabel="delta", ylabel="smallest singular value")
        axis.set_title("v1, v2 and v1 + v2 + delta u: when dependence is only rounding")
        axis.legend(fontsize=8)

# %% [inner_product] Inner Product Spaces
# An inner product is linear in both, symmetric, and <x, x> > 0; it brings lengths and angles.
with lesson("inner_product") as same:
    (jx, tx), (jy, ty) = both(same.rng.standard_normal(8)), both(same.rng.standard_normal(8))
    for order in (1, 2, np.inf):
        ours = jnp.linalg.norm(jx, order)
        same(f"norm {order}", ours, torch.linalg.norm(tx, order))
        square = [float(jnp.linalg.norm(v, order)) ** 2 for v in (jx + jy, jx - jy, jx, jy)]
        law = abs(square[0] + square[1] - 2 * square[2] - 2 * square[3]) < 1e-9
        same.holds(f"the parallelogram law holds for 2 alone ({order})", law == (order == 2))
    same.holds("Cauchy-Schwarz", abs(jx @ jy) <= jnp.linalg.norm(jx) * jnp.linalg.norm(jy))
    angle = jnp.arccos(jx @ jy / jnp.linalg.norm(jx) / jnp.linalg.norm(jy))
    same("angle", angle, torch.cosine_similarity(tx, ty, dim=0).arccos())
    root = same.rng.standard_normal((8, 8))
    (jm, tm) = both(root @ root.T + np.eye(8))
    same("another one: x^T M y", jx @ jm @ jy, tx @ tm @ ty)
    jl, tl = jnp.linalg.cholesky(jm), torch.linalg.cholesky(tm)
    same("is the usual one of L^T x, L^T y", (jl.T @ jx) @ (jl.T @ jy), tx @ tm @ ty)

    # A kernel is an inner product of features that are never made: (x.y + 1)^2 = phi(x).phi(y) with
    # all products of two of (x, 1). Any Gram matrix is symmetric, with no negative eigenvalue.
    jp, tp = both(same.rng.standard_normal((30, 8)))
    one = jnp.column_stack([jp, jnp.ones(30)]), torch.column_stack([tp, torch.ones(30)])
    features = jax.vmap(jnp.kron)(one[0], one[0]), torch.func.vmap(torch.kron)(one[1], one[1])
    same("kernel", (jp @ jp.T + 1) ** 2, (tp @ tp.T + 1) ** 2)
    same("is an inner product of features", features[0] @ features[0].T, (tp @ tp.T + 1) ** 2)
    apart = ((jp[:, None] - jp) ** 2).sum(-1), torch.cdist(tp, tp) ** 2
    grams = jnp.exp(-apart[0] / 16), torch.exp(-apart[1] / 16)
    same("Gaussian kernel", *grams)
    same.holds("is positive", float(torch.linalg.eigvalsh(grams[1]).min()) > 0)

    # Images are vectors, and similar ones have a small angle: the nearest of 1000 digits by cosine.
    (jk, tk), (jq, tq) = both(PIXELS[:1000]), both(PIXELS[1000:])
    jk, jq = (v / jnp.linalg.norm(v, axis=1, keepdims=True) for v in (jk, jq))
    tk, tq = (torch.nn.functional.normalize(v, dim=1) for v in (tk, tq))
    alike = jq @ jk.T, tq @ tk.T
    same("cosines of 797 by 1000 digits", *alike)
    nearest = [np.asarray(each).argmax(1) for each in alike]
    right = [float((LABELS[index] == LABELS[1000:]).mean()) for index in nearest]
    print(f"nearest by cosine: {right[0]:.3f} and {right[1]:.3f} are the same digit")
    same.holds("94 of 100 are the same digit", min(right) > 0.94)
    if (axes := same.axes(1, 2, height=3.6)) is not None:
        order = np.argsort(LABELS[:200], kind="stable")
        for axis, name, unit in ((axes[0], "JAX", jk), (axes[1], "PyTorch", tk)):
            part = np.asarray(unit)[order]
            shown = axis.imshow(part @ part.T, vmin=0, vmax=1)
            axis.set(title=f"{name}: cosines of 200 digits", xlabel="digits, 0 to 9")
            axis.set(xticks=[], yticks=[])
            axis.figure.colorbar(shown, ax=axis, shrink=0.8)

# %% [orthogonality] Orthogonality
# Orthogonal vectors have the inner product 0. An orthonormal basis, Q^T Q = I, is found from any
# other by subtracting projections (Gram-Schmidt) or by reflections (Householder).
with lesson("orthogonality") as same:
    ja, ta = both(same.rng.standard_normal((8, 5)))
    ways = "classical_gram_schmidt", "modified_gram_schmidt", "householder_qr"
    for way in ways:
        ours, theirs = getattr(jax_orthogonal, way)(ja), getattr(orthogonal, way)(ta)
        same(way, ours, theirs)
        same(f"{way}: QR = A", ours[0] @ ours[1], ta)
    (jb, tb) = both(same.rng.standard_normal(8))
    near = jax_orthogonal.projector(ja) @ jb, orthogonal.projector(ta) @ tb
    same("projection", *near)
    same("is the least-squares fit", near[0], ta @ torch.linalg.lstsq(ta, tb[:, None])[0][:, 0])
    same.holds("the rest is orthogonal", float(abs(ja.T @ (jb - near[0])).max()) < 1e-12)

    # In exact arithmetic all three agree. As A's columns grow alike, classical Gram-Schmidt loses
    # orthogonality with the square of the condition, the modified one with the condition.
    conditions, eps = 10.0 ** np.arange(1, 12, 2), np.finfo(np.float64).eps
    lost = {(way, side): [] for way in ways for side in ("JAX", "PyTorch")}
    u, v = (np.linalg.qr(same.rng.standard_normal((n, 12)))[0] for n in (40, 12))
    compiled = {way: jax.jit(getattr(jax_orthogonal, way)) for way in ways}
    for condition in conditions:
        jx, tx = both(u * np.logspace(0, -np.log10(condition), 12) @ v.T)
        for way in ways:
            jq, tq = compiled[way](jx)[0], getattr(orthogonal, way)(tx)[0]
            lost[way, "JAX"].append(float(abs(jq.T @ jq - jnp.eye(12)).max()))
            lost[way, "PyTorch"].append(float(abs(tq.T @ tq - torch.eye(12)).max()))
    for side in ("JAX", "PyTorch"):
        classical, modified, mirrors = (np.array(lost[way, side]) for way in ways)
        same.holds(f"classical is lost ({side})", classical[-1] > 0.01)
        same.holds(f"modified within eps cond ({side})", (modified < 10 * eps * conditions).all())
        same.holds(f"Householder within eps ({side})", mirrors.max() < 20 * eps)

    # Orthogonal initialisation: Q keeps every length, so that 50 layers do, too. Of the same normal
    # draws; R's diagonal is made positive, which leaves no choice of signs.
    draws = same.rng.standard_normal((50, 64, 64))
    jdraw, tdraw = both(draws)
    jq, jr = jnp.linalg.qr(jdraw)
    tq, tr = torch.linalg.qr(tdraw)
    jq = jq * jnp.sign(jnp.diagonal(jr, axis1=1, axis2=2))[:, None]
    tq = tq * tr.diagonal(dim1=1, dim2=2).sign()[:, None]
    same("orthogonal weights", jq, tq)
    filled = torch.nn.init.orthogonal_(torch.empty(64, 64))
    drawn = jax.nn.initializers.orthogonal()(jax.random.key(0), (64, 64))
    same.holds("torch's are orthogonal", abs(filled.T @ filled - torch.eye(64)).max() < 1e-12)
    same.holds("jax's, too", float(abs(drawn.T @ drawn - jnp.eye(64)).max()) < 1e-12)
    (jh, th), lengths = both(PIXELS[:100]), {"orthogonal": [], "normal": []}
    for name, jw, tw in (("orthogonal", jq, tq), ("normal", jdraw / 8, tdraw / 8)):
        hidden, state = jh, th
        for layer in range(50):
            hidden, state = hidden @ jw[layer], state @ tw[layer]
            lengths[name].append((float((hidden**2).sum()), float((state**2).sum())))
        same(f"50 layers, {name}", hidden, state)
    begin = float((jh**2).sum())
    same("lengths are kept", np.array(lengths["orthogonal"]), np.full((50, 2), begin))
    crushed = jnp.linalg.svd(jnp.linalg.multi_dot(list(jdraw / 8)), compute_uv=False)
    same.holds("normal ones keep few directions", float(crushed[10] / crushed[0]) < 0.1)
    if (axes := same.axes(1, 2)) is not None:
        for way in ways:
            line = axes[0].loglog(conditions, lost[way, "JAX"], "o-", label=f"{way}, JAX")[0]
            axes[0].loglog(
                conditions, lost[way, "PyTorch"], "x", color=line.get_color(), label="PyTorch"
            )
        axes[0].set(xlabel="condition of A", ylabel="largest entry of Q'Q - I")
        for name, values in lengths.items():
            ratio = np.array(values) / begin
            line = axes[1].plot(range(1, 51), ratio[:, 0], label=f"{name}, JAX")[0]
            axes[1].plot(
                range(1, 51, 3), ratio[::3, 1], "x", color=line.get_color(), label="PyTorch"
            )
        axes[1].set(xlabel="layers", ylabel="squared length, of what it was")
        for axis in axes:
            axis.legend(fontsize=7)

# %% [transformations] Linear Transformations
# f(ax + by) = a f(x) + b f(y): each is a matrix, whose columns are the images of the axes, and a
# linear layer without bias. The unit circle becomes an ellipse.
with lesson("transformations") as same:
    turn = np.pi / 6
    maps = {
        "rotation": np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]),
        "scaling": np.diag([1.5, 0.5]),
        "shear": np.array([[1.0, 0.8], [0, 1]]),
        "projection": np.array([[0.8, 0.4], [0.4, 0.2]]),
    }
    angles = np.linspace(0, 2 * np.pi, 65)
    jc, tc = both(np.column_stack([np.cos(angles), np.sin(angles)]))
    (jx, tx), (jy, ty), images = both(same.rng.random(2)), both(same.rng.random(2)), {}
    for name, matrix in maps.items():
        layer = Linear(2, 2, bias=False).requires_grad_(False)
        layer.weight.copy_(to_torch(matrix))
        jax_layer = JaxLinear(2, 2, bias=False).bind({"params": {"kernel": to_jax(matrix.T)}})
        images[name] = jax_layer(jc), layer(tc)
        same(name, *images[name])
        same(f"{name} is linear", jax_layer(2 * jx + 3 * jy), 2 * layer(tx) + 3 * layer(ty))
        same(f"{name}: the matrix from the axes", jax_layer(jnp.eye(2)).T, layer.weight)
        # The ellipse's half axes are the singular values.
        longest = float(jnp.linalg.norm(jax_layer(jc), axis=1).max())
        half = float(torch.linalg.svdvals(layer.weight)[0])
        same.holds(f"{name}: half axis", 0.99 * half < longest < half + 1e-12)
    r, s, p = maps["rotation"], maps["shear"], maps["projection"]
    (jr, tr), (js, ts), (jp, tp) = both(r), both(s), both(p)
    same("one after the other is a product", (jc @ jr.T) @ js.T, tc @ (ts @ tr).T)
    same.holds("and their order counts", float(abs(js @ jr - jr @ js).max()) > 0.1)
    same("a rotation's inverse is its transpose", jnp.linalg.inv(jr), tr.T)
    same("a shear keeps areas", jnp.linalg.det(js), 1.0)
    same("a projection twice is once", jp @ jp, tp)
    if (axes := same.axes(2, 2, height=3.4)) is not None:
        for axis, (name, (ours, theirs)) in zip(axes.flat, images.items(), strict=True):
            axis.plot(*tc.T, ":", color="grey", label="unit circle")
            axis.plot(*np.asarray(ours).T, label="JAX")
            axis.plot(*theirs[::4].T, "x", label="PyTorch")
            axis.set(title=name, aspect="equal", xlim=(-1.7, 1.7), ylim=(-1.3, 1.3))
            axis.set(xlabel="x", ylabel="y")
        axes[0, 0].legend(fontsize=8, loc="upper left")

# %% [change_of_basis] Change of Basis
# x = P c: the coordinates c of x in the basis of P's columns are P^-1 x. A map A becomes P^-1 A P:
# other numbers, the same map, with the same eigenvalues, trace and determinant.
with lesson("change_of_basis") as same:
    (ja, ta), (jp, tp) = (both(same.rng.standard_normal((5, 5))) for _ in range(2))
    jx, tx = both(same.rng.standard_normal(5))
    new = jnp.linalg.solve(jp, ja @ jp), torch.linalg.solve(tp, ta @ tp)
    same("P^-1 A P", *new)
    coordinates = jnp.linalg.solve(jp, jx), torch.linalg.solve(tp, tx)
    same("coordinates", *coordinates)
    same("A x, through the other basis", jp @ (new[0] @ coordinates[0]), ta @ tx)
    same("trace", jnp.trace(new[0]), torch.trace(ta))
    same("determinant", jnp.linalg.det(new[0]), torch.linalg.det(ta))
    same("characteristic polynomial", np.poly(np.asarray(new[0])), np.poly(ta.numpy()))

    # Whitening: in the basis of the covariance's eigenvectors, divided by their deviations, data
    # have the covariance I. V D^-1/2 V^T (ZCA) turns back, and the digits stay digits.
    jd, td = both(PIXELS - PIXELS.mean(0))
    jd, td = jd[:, PIXELS.std(0) > 0.1], td[:, PIXELS.std(0) > 0.1]
    jvalues, jv = jnp.linalg.eigh(jd.T @ jd / len(jd))
    tvalues, tv = torch.linalg.eigh(td.T @ td / len(td))
    white = jd @ (jv / jnp.sqrt(jvalues) @ jv.T), td @ (tv / tvalues.sqrt() @ tv.T)
    same("white digits", *white)
    same("have the covariance I", white[0].T @ white[0] / len(jd), torch.eye(td.shape[1]))

    # The cosines: an orthonormal basis of 8 by 8 patches, C_kn = s_k cos(pi (2n + 1) k / 16). Of a
    # photograph few coordinates matter, and JPEG keeps only those: here 10 of 64, the largest.
    k, n = np.arange(8)[:, None], np.arange(8)
    cosines = np.cos(np.pi * (2 * n + 1) * k / 16) * np.where(k == 0, np.sqrt(1 / 8), 0.5)
    jc, tc = both(cosines)
    same("C C^T = I", jc @ jc.T, torch.eye(8))
    photo = load_sample_image("china.jpg").mean(2)[100:260, 200:360] / 255
    patches = photo.reshape(20, 8, 20, 8).transpose(0, 2, 1, 3).reshape(400, 8, 8)
    jq, tq = both(patches)
    there = jc @ jq @ jc.T, tc @ tq @ tc.T
    same("coordinates of 400 patches", *there)
    library = jax.scipy.fft.dctn(jq, axes=(1, 2), norm="ortho")
    same("jax.scipy.fft.dctn has the same", library, there[1])
    same("and back", jc.T @ there[0] @ jc, tq)
    same("lengths are kept", (there[0] ** 2).sum(), (tq**2).sum())

    def keep(coordinates, sort):
        """The ten largest of each patch; sort gives them in rising order."""
        flat = abs(coordinates).reshape(400, 64)
        return coordinates * (abs(coordinates) >= sort(flat)[:, -10][:, None, None])

    few = keep(there[0], lambda x: jnp.sort(x, axis=1)), keep(there[1], lambda x: x.sort(1).values)
    again = jc.T @ few[0] @ jc, tc.T @ few[1] @ tc
    same("from 10 of 64 coordinates", *again)
    plain = keep(tq, lambda x: x.sort(1).values)
    error = [float(((np.asarray(each) - patches) ** 2).mean()) for each in (*again, plain)]
    decibels = [round(-10 * np.log10(each), 1) for each in error]
    print(f"PSNR {decibels[0]} and {decibels[1]} dB; with 10 pixels instead {decibels[2]} dB")
    same.holds("better than 24 dB", min(decibels[:2]) > 24)
    same.holds("a fiftieth of what 10 pixels lose", max(error[:2]) < error[2] / 50)
    if (axes := same.axes(1, 4, height=2.6)) is not None:
        atoms = np.einsum("ki,lj->kilj", cosines, cosines).reshape(64, 64)
        picture(axes[0], atoms, "64 cosines")
        picture(axes[1], photo, "photograph")
        for axis, name, each in zip(axes[2:], ("JAX", "PyTorch"), again, strict=True):
            whole = np.asarray(each).reshape(20, 20, 8, 8).transpose(0, 2, 1, 3).reshape(160, 160)
            picture(axis, whole, f"10 of 64: {name}", vmin=0, vmax=1)
