"""The reference of all options, under the name that it had: see `twisted_lb.config.reference`."""

from twisted_lb.config.reference import main

if __name__ == "__main__":
    main()
