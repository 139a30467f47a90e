"""Slips in the methods that add a term or a pass to the clients' steps: MOON and others."""

DRIFT = "algorithms/drift"
TERMS = "tests/algorithms/test_drift_terms.py"

FAULTS = [
    dict(
        name="moon: features are pushed from the global model's",
        path=f"{DRIFT}/moon.py",
        old="F.softplus((push_B - pull_B) / temperature)",
        new="F.softplus((pull_B - push_B) / temperature)",
        tests=f"{TERMS} -k 'contrastive or moon'",
    ),
    dict(
        name="moon: the last model is the one that was received",
        path=f"{DRIFT}/moon.py",
        old="        previous = frozen_copy(client.model, last)\n",
        new="        previous = received\n",
        tests=f"{TERMS} -k moon",
    ),
    dict(
        name="moon: the last model is kept before the training",
        path=f"{DRIFT}/moon.py",
        old="client.memory[_MEMORY] = read_weights(client.model)",
        new="client.memory[_MEMORY] = read_weights(received)",
        tests=f"{TERMS} -k moon",
    ),
    dict(
        name="moon: the temperature has no part",
        path=f"{DRIFT}/moon.py",
        old="contrastive(z_BD, global_BD, previous_BD, tau)",
        new="contrastive(z_BD, global_BD, previous_BD, 0.5)",
        tests=f"{TERMS} -k moon",
    ),
    dict(
        name="fedntd: the local model teaches the global one",
        path=f"{DRIFT}/fedntd.py",
        old="kl(teacher, student, temperature)",
        new="kl(student, teacher, temperature)",
        tests=f"{TERMS} -k 'not_true or fedntd'",
    ),
    dict(
        name="fedntd: the term is multiplied by tau^2",
        path=f"{DRIFT}/fedntd.py",
        old="temperature) / temperature**2",
        new="temperature)",
        tests=f"{TERMS} -k 'not_true or fedntd'",
    ),
    dict(
        name="fedntd: the class after the label is left out",
        path=f"{DRIFT}/fedntd.py",
        old="places >= y[:, None]",
        new="places > y[:, None]",
        tests=f"{TERMS} -k 'not_true or fedntd'",
    ),
    dict(
        name="fedntd: the term has no weight of its own",
        path=f"{DRIFT}/fedntd.py",
        old="F.cross_entropy(logits_BC, y), beta * kept",
        new="F.cross_entropy(logits_BC, y), kept",
        tests=f"{TERMS} -k fedntd",
    ),
    dict(
        name="fedsam: the model moves to where the loss is lower",
        path=f"{DRIFT}/fedsam.py",
        old="p.add_(scale * gradient)",
        new="p.sub_(scale * gradient)",
        tests=f"{TERMS} -k 'sharpened or fedsam'",
    ),
    dict(
        name="fedsam: the gradient is not normed",
        path=f"{DRIFT}/fedsam.py",
        old="torch.where(norm > 0, rho / norm, 0.0)",
        new="torch.where(norm > 0, rho * norm.sign(), 0.0)",
        tests=f"{TERMS} -k 'sharpened or fedsam'",
    ),
    dict(
        name="fedsam: the model stays where its loss is worst",
        path=f"{DRIFT}/fedsam.py",
        old="            p.copy_(value)\n",
        new="            value.copy_(p)\n",
        tests=f"{TERMS} -k 'sharpened or fedsam'",
    ),
    dict(
        name="fedsam: both passes move the statistics of BatchNorm",
        path=f"{DRIFT}/fedsam.py",
        old="    with buffers_kept(model):\n",
        new="    if True:\n",
        tests=f"{TERMS} -k fedsam",
    ),
    dict(
        name="fedsam: the second pass is no work",
        path=f"{DRIFT}/fedsam.py",
        old="            client.count_examples(len(batch[1]))\n",
        new="",
        tests=f"{TERMS} -k fedsam",
    ),
]
