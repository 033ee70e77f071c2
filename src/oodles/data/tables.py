def read_table(path, label="label", columns=()):
    raise NotImplementedError
