"""From raw dialogs and videos to clips and frames that training reads."""
