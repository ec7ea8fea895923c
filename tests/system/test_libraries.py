from mtl.system.libraries import libraries


def test_libraries_are_the_requirements_of_the_installed_package() -> None:
    by_name = {library.name: library for library in libraries()}
    assert by_name["lightning"].compatible and by_name["lightning"].extra is None
    assert by_name["optuna"].extra == "search"
