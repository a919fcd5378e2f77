"""A mapped function is one program outside of jit, and leaves no trace of that inside."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec as P

from mhe_jax.ops import mapped


def several(x):
    return jnp.sin(x) * jnp.cos(x) + jax.lax.psum(jnp.exp(x), "data")


def test_one_program_outside_of_jit_and_no_call_inside():
    seen = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: seen.append(event) if event.endswith("backend_compile_duration") else None
    )
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    x = np.arange(16, dtype=np.float32).reshape(16, 1) / 16
    with jax.set_mesh(mesh):
        run = mapped.shard_map(several, in_specs=P("data"), out_specs=P("data"))
        found = run(x)
        assert len(seen) == 1
        plain = jax.shard_map(several, in_specs=P("data"), out_specs=P("data"))
        np.testing.assert_allclose(found, jax.jit(plain)(x), rtol=1e-6)
        assert str(jax.make_jaxpr(run)(x)) == str(jax.make_jaxpr(plain)(x))
