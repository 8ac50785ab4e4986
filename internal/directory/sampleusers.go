package directory

func (d *Directory) addSampleUsers(tx Writer, log *logbook) error {
	for _, sample := range []struct{ uid, name string }{
		{"cometchat-uid-1", "Ada Abara"},
		{"cometchat-uid-2", "Bruno Costa"},
		{"cometchat-uid-3", "Chidi Eze"},
		{"cometchat-uid-4", "Dana Fields"},
		{"cometchat-uid-5", "Emi Goto"},
	} {
		user := User{UID: UID(sample.uid), Name: sample.name, Role: DefaultRole, CreatedAt: log.at}
		if err := d.addUser(tx, log, user); err != nil {
			return err
		}
	}
	return nil
}
