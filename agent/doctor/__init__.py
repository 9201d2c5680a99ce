"""``edgeferry-agent doctor``: looks at everything that an agent needs, and says what is wrong and what to do.

Nothing is changed, and a running agent goes on undisturbed. What decides is pure (`machine`, `service`, `versions`);
what looks at the machine gathers facts for it (`gathering`), or visits what has to answer (`broker`, `runtime`).
"""
