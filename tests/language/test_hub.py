import pytest

from attar.core.errors import InputError
from attar.language.hub import push


def raising(error):
    class Api:
        def __init__(self, token):
            pass

        def create_repo(self, *args, **settings):
            raise error

    return Api


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError("no route"), "the hub cannot be reached for me/small."),
        ("LocalTokenNotFoundError", "there is no token for the hub"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(error, sentence, monkeypatch, tmp_path):
    import huggingface_hub
    from huggingface_hub import errors

    error = getattr(errors, error)("") if isinstance(error, str) else error
    monkeypatch.setattr(huggingface_hub, "HfApi", raising(error))
    with pytest.raises(InputError, match=sentence):
        push(tmp_path, [], "me/small", private=False, token=None, message="m")


def test_a_name_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="'small' is no name on the hub; give user/name"):
        push(tmp_path, [], "small", private=False, token=None, message="m")
